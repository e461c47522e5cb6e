//! A refusal in the words of a kind that knows neither how it is called nor what a reply looks like: the generic verbs
//! add both. With replies here, kinds would need to look themselves up to word an error.

/// Why a strategy refuses an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Denied {
    /// Nobody may have it so.
    Forbidden(String),
    /// It breaks rules of its kind.
    Invalid(Vec<Cause>),
    /// What it needs has run out.
    Exhausted(String),
}

/// One rule that an object breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    pub reason: &'static str,
    pub message: String,
    pub field: String,
}
