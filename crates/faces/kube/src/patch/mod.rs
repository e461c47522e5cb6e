//! The four kinds of patch. Each is a pure function from an object and a patch to the patched object, and costs no more
//! than in proportion to the two.

pub mod apply;
pub mod fields;
#[cfg(test)]
mod hostile;
pub mod json;
pub mod merge;
pub mod places;
pub mod strategic;
