//! `json!`. What is put into it and is JSON already is shared, not written and read again.

use serde::Serialize;

use crate::{Map, Value};

/// What stands in a `json!`. Rust picks the first of two ways that there is for it: JSON is taken as it is ([`Shared`]), all
/// else is serialised ([`Plain`]).
#[doc(hidden)]
pub struct Given<'a, T: ?Sized>(pub &'a T);

#[doc(hidden)]
pub trait Shared {
    fn json(&self) -> Value;
}

#[doc(hidden)]
pub trait Plain {
    fn json(&self) -> Value;
}

impl Shared for Given<'_, Value> {
    fn json(&self) -> Value {
        self.0.clone()
    }
}

impl Shared for Given<'_, &Value> {
    fn json(&self) -> Value {
        (*self.0).clone()
    }
}

impl Shared for Given<'_, &mut Value> {
    fn json(&self) -> Value {
        (**self.0).clone()
    }
}

impl Shared for Given<'_, Map<String, Value>> {
    fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

impl Shared for Given<'_, &Map<String, Value>> {
    fn json(&self) -> Value {
        Value::Object((*self.0).clone())
    }
}

impl Shared for Given<'_, Vec<Value>> {
    fn json(&self) -> Value {
        Value::Array(self.0.clone())
    }
}

impl Shared for Given<'_, &Vec<Value>> {
    fn json(&self) -> Value {
        Value::Array((*self.0).clone())
    }
}

impl Shared for Given<'_, Option<Value>> {
    fn json(&self) -> Value {
        self.0.clone().unwrap_or_default()
    }
}

impl Shared for Given<'_, Option<&Value>> {
    fn json(&self) -> Value {
        self.0.cloned().unwrap_or_default()
    }
}

impl Shared for Given<'_, &str> {
    fn json(&self) -> Value {
        Value::String((*self.0).to_owned())
    }
}

impl Shared for Given<'_, String> {
    fn json(&self) -> Value {
        Value::String(self.0.clone())
    }
}

impl<T: Serialize + ?Sized> Plain for &Given<'_, T> {
    #[allow(clippy::expect_used, reason = "as of serde_json: it can always be written, or the caller has a bug")]
    fn json(&self) -> Value {
        crate::to_value(self.0).expect("this has no JSON")
    }
}

/// A value, written as JSON with expressions in it.
#[macro_export]
macro_rules! json {
    (@list $list:ident) => {};
    (@list $list:ident null $(, $($rest:tt)*)?) => {
        $list.push($crate::Value::Null);
        $crate::json!(@list $list $($($rest)*)?)
    };
    (@list $list:ident [$($in:tt)*] $(, $($rest:tt)*)?) => {
        $list.push($crate::json!([$($in)*]));
        $crate::json!(@list $list $($($rest)*)?)
    };
    (@list $list:ident {$($in:tt)*} $(, $($rest:tt)*)?) => {
        $list.push($crate::json!({$($in)*}));
        $crate::json!(@list $list $($($rest)*)?)
    };
    (@list $list:ident $item:expr $(, $($rest:tt)*)?) => {
        $list.push($crate::json!($item));
        $crate::json!(@list $list $($($rest)*)?)
    };
    (@fields $map:ident ()) => {};
    (@fields $map:ident ($($name:tt)+) : null $(, $($rest:tt)*)?) => {
        $map.insert(($($name)+).into(), $crate::Value::Null);
        $crate::json!(@fields $map () $($($rest)*)?)
    };
    (@fields $map:ident ($($name:tt)+) : [$($in:tt)*] $(, $($rest:tt)*)?) => {
        $map.insert(($($name)+).into(), $crate::json!([$($in)*]));
        $crate::json!(@fields $map () $($($rest)*)?)
    };
    (@fields $map:ident ($($name:tt)+) : {$($in:tt)*} $(, $($rest:tt)*)?) => {
        $map.insert(($($name)+).into(), $crate::json!({$($in)*}));
        $crate::json!(@fields $map () $($($rest)*)?)
    };
    (@fields $map:ident ($($name:tt)+) : $value:expr $(, $($rest:tt)*)?) => {
        $map.insert(($($name)+).into(), $crate::json!($value));
        $crate::json!(@fields $map () $($($rest)*)?)
    };
    (@fields $map:ident ($($name:tt)*) $next:tt $($rest:tt)*) => {
        $crate::json!(@fields $map ($($name)* $next) $($rest)*)
    };
    (null) => { $crate::Value::Null };
    ([]) => { $crate::Value::Array(::std::vec::Vec::new()) };
    ([$($in:tt)+]) => {{
        let mut list = ::std::vec::Vec::new();
        $crate::json!(@list list $($in)+);
        $crate::Value::Array(list)
    }};
    ({}) => { $crate::Value::Object($crate::Map::new()) };
    ({$($in:tt)+}) => {{
        let mut map = $crate::Map::<::std::string::String, $crate::Value>::new();
        $crate::json!(@fields map () $($in)+);
        $crate::Value::Object(map)
    }};
    ($value:expr) => {{
        #[allow(unused_imports)]
        use $crate::from::{Plain as _, Shared as _};
        (&$crate::from::Given(&$value)).json()
    }};
}
