//! Values as bytes.

use grafos_std::wire::{from_bytes, to_bytes, DECODE_FAILED};
use grafos_std::{FabricError, Wire};

#[derive(Clone, Debug, PartialEq, Wire)]
struct Point {
    name: String,
    at: (i32, i32),
    r#type: Option<u8>,
}

fn comes_back<T: Wire + PartialEq + std::fmt::Debug>(value: T) {
    assert_eq!(from_bytes::<T>(&to_bytes(&value)), Ok(value));
}

#[test]
fn values_come_back() {
    for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
        comes_back(number);
        comes_back(number as u16);
        comes_back(number as i64);
        comes_back(-(number as i128));
        comes_back(number as f64);
    }
    comes_back((i8::MIN, i16::MIN, i32::MIN, i64::MIN));
    comes_back((u128::MAX, i128::MIN, true, ()));
    comes_back(vec![Some("ä".to_owned()), None, Some(String::new())]);
    comes_back([[1_u16; 2]; 3]);
    comes_back(Point { name: "here".to_owned(), at: (-3, 4), r#type: Some(9) });
}

#[test]
fn the_bytes_are_those_of_postcard() {
    assert_eq!(to_bytes(&300_u32), [0xac, 0x02]);
    assert_eq!(to_bytes(&-2_i16), [0x03]);
    assert_eq!(to_bytes(&(5_u8, -1_i8, true)), [0x05, 0xff, 0x01]);
    assert_eq!(to_bytes(&1.5_f32), [0x00, 0x00, 0xc0, 0x3f]);
    assert_eq!(to_bytes(&Point { name: "ab".to_owned(), at: (1, -1), r#type: None }), [2, b'a', b'b', 2, 1, 0]);
}

#[test]
fn what_holds_no_value_is_refused() {
    let none: Result<u32, FabricError> = Err(DECODE_FAILED);
    for bytes in [&[][..], &[0x80], &[1, 2], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[0xff; 6]] {
        assert_eq!(from_bytes::<u32>(bytes), none, "{bytes:?}");
    }
    assert_eq!(from_bytes::<u16>(&to_bytes(&70_000_u32)), Err(DECODE_FAILED));
    assert_eq!(from_bytes::<bool>(&[2]), Err(DECODE_FAILED));
    assert_eq!(from_bytes::<String>(&[1, 0xff]), Err(DECODE_FAILED));
    assert_eq!(from_bytes::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(DECODE_FAILED)); // before so much is allocated
    assert_eq!(from_bytes::<Vec<()>>(&to_bytes(&u64::MAX)), Err(DECODE_FAILED));
}
