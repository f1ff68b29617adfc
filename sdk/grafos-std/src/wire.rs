//! Values as bytes in leased memory: the encoding that collections, queues and calls share.
//!
//! It is postcard's: unsigned numbers of more than a byte are LEB128, signed ones zigzag before that, floats are little
//! endian, a text or a list has its length before it, a field follows the other without a name. So a program in another
//! language reads what this one wrote, with the crate of that name where there is one.

use crate::error::FabricError;

/// What bytes are told that do not hold the value that is wanted.
pub const DECODE_FAILED: FabricError = FabricError::IoError(-200);
/// What a value is told that does not fit into its place.
pub const ENCODE_FAILED: FabricError = FabricError::IoError(-201);

/// A value that can be written as bytes and read back; `#[derive(grafos_std::Wire)]` makes a struct with named fields
/// one.
pub trait Wire: Sized {
    /// Appends the value's bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads the value; `DECODE_FAILED` when the bytes do not hold one.
    fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError>;
}

/// The value's bytes.
pub fn to_bytes<T: Wire>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// The value in these bytes, which hold nothing else.
pub fn from_bytes<T: Wire>(bytes: &[u8]) -> Result<T, FabricError> {
    let mut reader = WireReader { rest: bytes };
    let value = T::decode(&mut reader)?;
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(DECODE_FAILED)
    }
}

/// Bytes that are read one after the other.
pub struct WireReader<'a> {
    rest: &'a [u8],
}

impl<'a> WireReader<'a> {
    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], FabricError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DECODE_FAILED)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FabricError> {
        self.take(N)?.try_into().map_err(|_| DECODE_FAILED)
    }

    /// A LEB128 number of at most `bits` bits.
    fn number(&mut self, bits: u32) -> Result<u128, FabricError> {
        let mut value = 0_u128;
        for shift in (0..bits).step_by(7) {
            let [byte] = self.array()?;
            let part = u128::from(byte & 0x7f);
            if shift + 7 > bits && part >> (bits - shift) != 0 {
                return Err(DECODE_FAILED);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DECODE_FAILED)
    }

    /// A length that the bytes that follow can hold.
    fn length(&mut self) -> Result<usize, FabricError> {
        let length = usize::decode(self)?;
        if length > self.rest.len() {
            return Err(DECODE_FAILED);
        }
        Ok(length)
    }
}

fn write_number(mut value: u128, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

macro_rules! unsigned {
    ($($type:ty)*) => {$(
        impl Wire for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                write_number(*self as u128, out);
            }

            fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
                <$type>::try_from(from.number(<$type>::BITS.max(32))?).map_err(|_| DECODE_FAILED)
            }
        }
    )*};
}

unsigned!(u16 u32 u64 u128 usize);

macro_rules! signed {
    ($($type:ty, $unsigned:ty;)*) => {$(
        impl Wire for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                let folded = (*self << 1) ^ (*self >> (<$type>::BITS - 1));
                write_number(folded as $unsigned as u128, out);
            }

            fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
                let folded = <$unsigned>::try_from(from.number(<$type>::BITS.max(32))?).map_err(|_| DECODE_FAILED)?;
                Ok((folded >> 1) as $type ^ -((folded & 1) as $type))
            }
        }
    )*};
}

signed!(i16, u16; i32, u32; i64, u64; i128, u128; isize, usize;);

macro_rules! as_their_bytes {
    ($($type:ty)*) => {$(
        impl Wire for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
                Ok(<$type>::from_le_bytes(from.array()?))
            }
        }
    )*};
}

as_their_bytes!(u8 i8 f32 f64);

impl Wire for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
        match from.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DECODE_FAILED),
        }
    }
}

impl Wire for () {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_from: &mut WireReader<'_>) -> Result<Self, FabricError> {
        Ok(())
    }
}

impl Wire for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().encode(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
        let length = from.length()?;
        String::from_utf8(from.take(length)?.to_vec()).map_err(|_| DECODE_FAILED)
    }
}

/// Each of its values has at least one byte.
impl<T: Wire> Wire for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().encode(out);
        self.iter().for_each(|value| value.encode(out));
    }

    fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
        let length = from.length()?;
        (0..length).map(|_| T::decode(from)).collect()
    }
}

impl<T: Wire, const N: usize> Wire for [T; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.encode(out));
    }

    fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
        let values: Vec<T> = (0..N).map(|_| T::decode(from)).collect::<Result<_, _>>()?;
        values.try_into().map_err(|_| DECODE_FAILED)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
        bool::decode(from)?.then(|| T::decode(from)).transpose()
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)*) => {$(
        #[allow(non_snake_case)]
        impl<$($name: Wire),+> Wire for ($($name,)+) {
            fn encode(&self, out: &mut Vec<u8>) {
                let ($($name,)+) = self;
                $($name.encode(out);)+
            }

            fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
                Ok(($($name::decode(from)?,)+))
            }
        }
    )*};
}

tuples!(A; A B; A B C; A B C D;);
