//! The OCI registry at `/v2/`.
