//! What nodes ask the controller and what it answers, as bytes: big-endian, counts before contents. Nothing is read beyond
//! what is there, and nothing is allocated for a count that the bytes cannot hold.

mod commands;

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Uuid};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

/// A value that travels between nodes of one version of ours.
pub(super) trait Wire: Sized {
    fn put(&self, out: &mut BytesMut);
    /// `None` where the bytes are none.
    fn get(bytes: &mut Bytes) -> Option<Self>;
}

/// A struct: its fields in order.
macro_rules! wire_struct {
    ($name:ident { $($field:ident),+ $(,)? }) => {
        impl Wire for $name {
            fn put(&self, out: &mut BytesMut) {
                $( self.$field.put(out); )+
            }

            fn get(bytes: &mut Bytes) -> Option<Self> {
                Some(Self { $( $field: Wire::get(bytes)? ),+ })
            }
        }
    };
}
pub(super) use wire_struct;

/// An enum: a byte for the variant, then its fields.
macro_rules! wire_enum {
    ($name:ident { $( $tag:literal = $variant:ident $( ( $($item:ident),+ ) )? $( { $($field:ident),+ } )? ),+ $(,)? }) => {
        impl Wire for $name {
            fn put(&self, out: &mut BytesMut) {
                match self {
                    $( Self::$variant $( ( $($item),+ ) )? $( { $($field),+ } )? => {
                        out.put_u8($tag);
                        $( $( $item.put(out); )+ )?
                        $( $( $field.put(out); )+ )?
                    } )+
                }
            }

            fn get(bytes: &mut Bytes) -> Option<Self> {
                Some(match bytes.try_get_u8().ok()? {
                    $( $tag => {
                        $( $( let $item = Wire::get(bytes)?; )+ )?
                        $( $( let $field = Wire::get(bytes)?; )+ )?
                        Self::$variant $( ( $($item),+ ) )? $( { $($field),+ } )?
                    } )+
                    _ => return None,
                })
            }
        }
    };
}
pub(super) use wire_enum;

/// What has a number on the wire already.
macro_rules! wire_code {
    ($($name:ty => $put:ident $get:ident $from:expr;)+) => {
        $( impl Wire for $name {
            fn put(&self, out: &mut BytesMut) {
                out.$put(self.code());
            }

            fn get(bytes: &mut Bytes) -> Option<Self> {
                $from(bytes.$get().ok()?)
            }
        } )+
    };
}
pub(super) use wire_code;

macro_rules! wire_number {
    ($($name:ty => $put:ident $get:ident;)+) => {
        $( impl Wire for $name {
            fn put(&self, out: &mut BytesMut) {
                out.$put(*self);
            }

            fn get(bytes: &mut Bytes) -> Option<Self> {
                bytes.$get().ok()
            }
        } )+
    };
}

wire_number! {
    i8 => put_i8 try_get_i8;
    i16 => put_i16 try_get_i16;
    u16 => put_u16 try_get_u16;
    i32 => put_i32 try_get_i32;
    i64 => put_i64 try_get_i64;
    u64 => put_u64 try_get_u64;
    f64 => put_f64 try_get_f64;
}

wire_code! {
    ErrorCode => put_i16 try_get_i16 |code| Some(ErrorCode::from_code(code));
}

macro_rules! wire_newtype {
    ($($name:ident),+) => {
        $( impl Wire for $name {
            fn put(&self, out: &mut BytesMut) {
                self.0.put(out);
            }

            fn get(bytes: &mut Bytes) -> Option<Self> {
                Some(Self(Wire::get(bytes)?))
            }
        } )+
    };
}
pub(super) use wire_newtype;

wire_newtype!(BrokerId, LeaderEpoch, Offset, PartitionIndex, Uuid);

impl Wire for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Wire for [u8; 16] {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(self);
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        let mut id = [0; 16];
        bytes.try_copy_to_slice(&mut id).ok()?;
        Some(id)
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self);
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        let length = bytes.try_get_u32().ok()? as usize;
        (length <= bytes.len()).then(|| bytes.split_to(length))
    }
}

impl Wire for ByteString {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self.as_bytes());
    }

    /// A copy, so that what is kept of a message does not keep all of it.
    fn get(bytes: &mut Bytes) -> Option<Self> {
        String::get(bytes).map(Self::from)
    }
}

impl Wire for String {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self.as_bytes());
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        let text = Bytes::get(bytes)?;
        Some(std::str::from_utf8(&text).ok()?.to_owned())
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        self.is_some().put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        match bool::get(bytes)? {
            true => Some(Some(T::get(bytes)?)),
            false => Some(None),
        }
    }
}

/// Every value takes a byte at least, so that a count is never larger than what is left.
fn get_count(bytes: &mut Bytes) -> Option<usize> {
    let count = bytes.try_get_u32().ok()? as usize;
    (count <= bytes.len()).then_some(count)
}

macro_rules! wire_collection {
    ($( [$($of:ident $(: $bound:ident)?),+] $name:ty as $item:ty;)+) => {
        $( impl<$($of: Wire $(+ $bound)?),+> Wire for $name {
            fn put(&self, out: &mut BytesMut) {
                out.put_u32(self.len() as u32);
                self.iter().for_each(|item| item.put(out));
            }

            fn get(bytes: &mut Bytes) -> Option<Self> {
                (0..get_count(bytes)?).map(|_| <$item>::get(bytes)).collect()
            }
        } )+
    };
}

wire_collection! {
    [T] Vec<T> as T;
    [T: Ord] BTreeSet<T> as T;
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        self.iter().for_each(|(key, value)| {
            key.put(out);
            value.put(out);
        });
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        (0..get_count(bytes)?).map(|_| Some((K::get(bytes)?, V::get(bytes)?))).collect()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        Some((A::get(bytes)?, B::get(bytes)?))
    }
}

impl<A: Wire, B: Wire, C: Wire> Wire for (A, B, C) {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        Some((A::get(bytes)?, B::get(bytes)?, C::get(bytes)?))
    }
}
