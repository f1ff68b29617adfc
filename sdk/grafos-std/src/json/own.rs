//! What can be written as JSON without serde.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{separate, write_text, Json, ToJson};
use crate::error::Failure;
use crate::lease::LeaseRef;

macro_rules! as_displayed {
    ($($type:ty)*) => {$(
        impl ToJson for $type {
            fn to_json(&self, out: &mut String) -> Result<(), Failure> {
                write!(out, "{self}").map_err(Failure::from)
            }
        }
    )*};
}

as_displayed!(bool u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! as_float {
    ($($type:ty)*) => {$(
        impl ToJson for $type {
            /// What is no number in JSON (infinite, not a number) is `null`.
            fn to_json(&self, out: &mut String) -> Result<(), Failure> {
                if self.is_finite() {
                    // Not `{}`, which writes a large number with all of its digits.
                    return write!(out, "{self:?}").map_err(Failure::from);
                }
                out.push_str("null");
                Ok(())
            }
        }
    )*};
}

as_float!(f32 f64);

impl ToJson for str {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        write_text(self, out);
        Ok(())
    }
}

impl ToJson for String {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        self.as_str().to_json(out)
    }
}

impl ToJson for Json {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        self.write(out);
        Ok(())
    }
}

impl ToJson for LeaseRef {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        out.push_str(self.as_str());
        Ok(())
    }
}

impl ToJson for () {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        out.push_str("null");
        Ok(())
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        (**self).to_json(out)
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        match self {
            Some(value) => value.to_json(out),
            None => ().to_json(out),
        }
    }
}

impl<T: ToJson> ToJson for [T] {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        out.push('[');
        for (index, value) in self.iter().enumerate() {
            separate(index, out);
            value.to_json(out)?;
        }
        out.push(']');
        Ok(())
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        self.as_slice().to_json(out)
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        self.as_slice().to_json(out)
    }
}

impl<K: AsRef<str>, T: ToJson> ToJson for BTreeMap<K, T> {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        out.push('{');
        for (index, (name, value)) in self.iter().enumerate() {
            separate(index, out);
            write_text(name.as_ref(), out);
            out.push(':');
            value.to_json(out)?;
        }
        out.push('}');
        Ok(())
    }
}
