//! What is asked and not stored: who somebody is, and what they may.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};

use crate::kind::{ApiResource, Given::Admin};

pub fn kinds() -> [ApiResource; 6] {
    [
        ApiResource::review::<TokenReview>(),
        ApiResource::review::<SelfSubjectReview>(),
        ApiResource::review::<LocalSubjectAccessReview>().given(Admin),
        ApiResource::review::<SelfSubjectAccessReview>(),
        ApiResource::review::<SelfSubjectRulesReview>(),
        ApiResource::review::<SubjectAccessReview>(),
    ]
}
