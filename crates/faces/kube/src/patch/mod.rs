//! The four kinds of patch. Each is a pure function from an object and a patch to the patched object.

pub mod apply;
pub mod fields;
pub mod json;
pub mod merge;
pub mod strategic;
