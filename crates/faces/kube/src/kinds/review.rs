//! What is asked and not stored: who somebody is, and what they may.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};

use crate::kind::{Given::Admin, Kind};

pub fn kinds() -> [Kind; 6] {
    [
        Kind::review::<TokenReview>(),
        Kind::review::<SelfSubjectReview>(),
        Kind::review::<LocalSubjectAccessReview>().given(Admin),
        Kind::review::<SelfSubjectAccessReview>(),
        Kind::review::<SelfSubjectRulesReview>(),
        Kind::review::<SubjectAccessReview>(),
    ]
}
