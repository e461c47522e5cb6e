//! Service accounts: who pods are.

use k8s_openapi::api::{authentication, core};

use crate::kind::{
    ApiResource,
    Given::{Edit, View},
    Subresource, schema, sub,
};
use crate::strategy::Plain;

const TOKEN: &[Subresource] = &[sub("token", "authentication.k8s.io", "v1", "TokenRequest", &["create"], Edit)];

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::ServiceAccount>(Plain)
        .short("sa")
        .given(View)
        .with(TOKEN, &[schema::<authentication::v1::TokenRequest>])
        .no_table("its tokens, pull secrets and mounts are acted on")
}
