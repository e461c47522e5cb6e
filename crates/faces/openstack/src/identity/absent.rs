//! What Keystone has and this cloud has not.

use crate::service::Absent;

pub const ABSENT: Absent = &[
    ("/v3/OS-EP-FILTER", "Filtering the catalog by project (OS-EP-FILTER)"),
    ("/v3/OS-ENDPOINT-POLICY", "Policies of endpoints (OS-ENDPOINT-POLICY)"),
    ("/v3/policies/*/OS-ENDPOINT-POLICY", "Policies of endpoints (OS-ENDPOINT-POLICY)"),
    ("/v3/endpoints/*/OS-ENDPOINT-POLICY", "Policies of endpoints (OS-ENDPOINT-POLICY)"),
    ("/v3/OS-FEDERATION", "Federation (OS-FEDERATION)"),
    ("/v3/auth/OS-FEDERATION", "Federation (OS-FEDERATION)"),
    ("/v3/OS-OAUTH1", "OAuth 1.0a (OS-OAUTH1)"),
    ("/v3/OS-OAUTH2", "OAuth 2.0 (OS-OAUTH2)"),
    ("/v3/OS-REVOKE", "The list of revoked tokens (OS-REVOKE)"),
    ("/v3/OS-SIMPLE-CERT", "Signed tokens (OS-SIMPLE-CERT)"),
    ("/v3/auth/tokens/OS-PKI", "Signed tokens (OS-PKI)"),
    ("/v3/users/*/OS-OAUTH1", "OAuth 1.0a (OS-OAUTH1)"),
    ("/v3/domains/*/config", "Configuration of domains"),
    ("/v3/domains/config/*", "Configuration of domains"),
    ("/v3/limits", "Unified limits (the services keep their own quotas)"),
    ("/v3/registered_limits", "Unified limits (the services keep their own quotas)"),
    ("/v3/policies", "Policies, which Keystone itself reads nowhere,"),
    ("/v3/ec2tokens/*", "A signed request by id"),
    ("/v3/s3tokens", "Tokens for S3"),
    ("/v2.0", "The API of version 2, which ended with Queens,"),
];
