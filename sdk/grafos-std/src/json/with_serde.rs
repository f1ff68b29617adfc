//! What can be written as JSON with serde: whatever it can serialize.

use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use super::{Json, ToJson};
use crate::error::Failure;
use crate::lease::LeaseRef;

impl<T: Serialize + ?Sized> ToJson for T {
    fn to_json(&self, out: &mut String) -> Result<(), Failure> {
        out.push_str(&serde_json::to_string(self)?);
        Ok(())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Number(_) => {
                if let Some(number) = self.as_u64() {
                    serializer.serialize_u64(number)
                } else if let Some(number) = self.as_i64() {
                    serializer.serialize_i64(number)
                } else {
                    let number = self.as_f64().ok_or_else(|| S::Error::custom("a Json::Number holds no number"))?;
                    serializer.serialize_f64(number)
                }
            }
            Json::Text(text) => serializer.serialize_str(text),
            Json::List(values) => serializer.collect_seq(values),
            Json::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for LeaseRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_json().serialize(serializer)
    }
}
