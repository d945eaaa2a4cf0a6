//! A serde deserialiser that answers every request with random data: every type of the model can be made from it.

use keyferry_kmip::spec::{attribute_rows, enumeration_domains, mask_domains, tag};
use keyferry_ttlv::{Context, Tag, Version, Writer};
use serde::de::value::{BorrowedStrDeserializer, Error, MapDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
};
use serde::de::{VariantAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, Error>;

/// Where the random data come from, and what is to become of them.
pub struct Source {
    state: u64,
    /// How many optional things there may still be: the fewer, the smaller the value. This is what shrinks.
    budget: u32,
    /// How many of eight optional things are there: with few the later fields of a structure have their turn too.
    density: usize,
    /// Whether attributes may have indices, which 2.x does not carry.
    indices: bool,
    /// The variant that an enum shall have.
    forced: Option<(&'static str, usize)>,
    /// Of every enum that was asked for, its variants, and which of them were made.
    pub enums: BTreeMap<&'static str, (&'static [&'static str], BTreeSet<&'static str>)>,
}

impl Source {
    pub fn new(seed: u64, budget: u32, indices: bool) -> Self {
        let mut source = Source {
            state: seed,
            budget,
            density: 0,
            indices,
            forced: None,
            enums: BTreeMap::new(),
        };
        source.density = 1 + source.below(7);
        source
    }

    /// A value of a type.
    pub fn make<T: DeserializeOwned>(&mut self) -> T {
        let place = Place::default();
        T::deserialize(Random {
            source: self,
            place,
        })
        .unwrap_or_else(|e| panic!("{}: {e}", std::any::type_name::<T>()))
    }

    /// A value of an enum with the n-th of its variants.
    pub fn make_variant<T: DeserializeOwned>(&mut self, name: &'static str, n: usize) -> T {
        self.forced = Some((name, n));
        self.make()
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Whether something optional is there.
    fn some(&mut self) -> bool {
        let there = self.budget > 0 && self.below(8) < self.density;
        self.budget -= u32::from(there);
        there
    }

    fn number(&mut self) -> i64 {
        let any = self.next().cast_signed();
        self.one_of(&[0, 1, -1, i64::MAX, i64::MIN, any, any >> 32, any >> 20])
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(20)).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self) -> String {
        let letters = ['a', 'Z', '0', ' ', '-', '"', '\\', '\u{0}', 'é', '鍵', '🔑'];
        (0..self.below(8)).map(|_| self.one_of(&letters)).collect()
    }

    /// An item with tags of vendors below its own.
    fn item(&mut self, tag: Tag, structure: bool) -> Vec<u8> {
        let extension = |source: &mut Source| Tag::new(0x540001 + source.below(4) as u32);
        let (count, number) = (self.below(3), self.number() as i32);
        let mut w = Writer::new(Context::new(Version::V2_1));
        if structure || number % 2 == 0 {
            let children: Vec<(Tag, i32)> = (0..count)
                .map(|_| (extension(self), self.number() as i32))
                .collect();
            w.structure(tag, |w| {
                children
                    .iter()
                    .for_each(|(tag, value)| w.integer(*tag, *value));
                Ok(())
            })
            .unwrap();
        } else {
            w.integer(tag, number);
        }
        w.finish().to_vec()
    }
}

/// Where in a type a request comes from.
#[derive(Clone, Copy, Default, Debug)]
struct Place {
    /// The field or variant around the type.
    outer: &'static str,
    /// The type.
    within: &'static str,
    /// Its field or variant.
    at: &'static str,
}

struct Random<'s> {
    source: &'s mut Source,
    place: Place,
}

impl Random<'_> {
    fn at(&mut self, within: &'static str, at: &'static str) -> Random<'_> {
        let place = Place {
            outer: self.place.at,
            within,
            at,
        };
        Random {
            source: self.source,
            place,
        }
    }

    fn same(&mut self) -> Random<'_> {
        Random {
            source: self.source,
            place: self.place,
        }
    }

    /// The item that is kept as it came: a known tag where the type demands one, a vendor's otherwise.
    fn raw(&mut self) -> Vec<u8> {
        let extension = Tag::new(0x540001 + self.source.below(4) as u32);
        let (tag, structure) = match (self.place.within, self.place.at) {
            ("RequestPayload", _) => (tag::REQUEST_PAYLOAD, true),
            ("ResponsePayload", _) => (tag::RESPONSE_PAYLOAD, true),
            ("CredentialValue", _) => (tag::CREDENTIAL_VALUE, true),
            ("KeyMaterial", _) => (tag::KEY_MATERIAL, true),
            ("MessageExtension", "vendor_extension") => (tag::VENDOR_EXTENSION, true),
            ("Value", _) if self.place.outer == "adjustment_value" => (tag::ADJUSTMENT_VALUE, true),
            ("Value", _) => (tag::ATTRIBUTE_VALUE, true),
            ("named", _) => (tag::ATTRIBUTE_VALUE, false),
            _ => (extension, false),
        };
        self.source.item(tag, structure)
    }

    /// A value of an enumeration or a mask, of whatever version.
    fn value(&mut self) -> Option<u32> {
        let name = self.place.within;
        if let Some(domain) = enumeration_domains().find(|domain| domain.name == name) {
            // What is kept as it came is of a kind that nobody knows.
            if self.place.outer == "Other" || self.source.below(12) == 0 {
                return Some(0x8000_0001);
            }
            return Some(domain.values[self.source.below(domain.values.len())].value);
        }
        let domain = mask_domains().find(|domain| domain.name == name)?;
        let all: u32 = domain.values.iter().map(|row| row.value).sum();
        Some(self.source.next() as u32 & (all | 1 << 31))
    }
}

macro_rules! numbers {
    ($($method:ident: $visit:ident, $ty:ty;)*) => {$(
        fn $method<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value> {
            visitor.$visit(self.source.number() as $ty)
        }
    )*};
}

impl Deserializer<'static> for Random<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'static>>(mut self, visitor: V) -> Result<V::Value> {
        match self.place.within {
            "UniqueIdentifier" => match self.source.below(4) {
                0 => visitor.visit_i64((self.source.number() as i32).into()),
                1 => {
                    let value = 0x8000_0001_u32;
                    let value = if self.source.below(2) == 0 { value } else { 1 };
                    visitor.visit_map(MapDeserializer::new([("enumeration", value)].into_iter()))
                }
                _ => visitor.visit_str(&self.source.text()),
            },
            "Tag" => {
                let rows = attribute_rows();
                let attribute = rows[self.source.below(rows.len())].tag;
                let tag = self.source.one_of(&[
                    attribute,
                    attribute,
                    attribute,
                    Tag::new(0x540001),
                    tag::BATCH_ITEM,
                ]);
                visitor.visit_u64(tag.number().into())
            }
            "DateTime" | "DateTimeExtended" => visitor.visit_i64(self.source.number()),
            "Enumeration" => visitor.visit_u64((self.source.next() as u32).into()),
            _ => match self.value() {
                Some(value) => visitor.visit_u64(value.into()),
                None => panic!("nobody says what is wanted: {:?}", self.place),
            },
        }
    }

    numbers! {
        deserialize_i32: visit_i32, i32;
        deserialize_i64: visit_i64, i64;
        deserialize_u32: visit_u32, u32;
    }

    fn deserialize_bool<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bool(self.source.below(2) == 0)
    }

    /// A text.
    fn deserialize_str<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value> {
        match (self.place.within, self.place.at) {
            ("CustomAttribute" | "AttributeReference", "vendor") => {
                visitor.visit_str(self.source.one_of(&["x", "y", "acme"]))
            }
            ("AttributeReference", "Unknown") | ("named", _) => visitor.visit_str("Unknown Thing"),
            _ => visitor.visit_str(&self.source.text()),
        }
    }

    /// Bytes: they stand as texts that are wiped.
    fn deserialize_string<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value> {
        match (self.place.within, self.place.at) {
            ("BigInteger" | "SecretInteger", _) | ("Value", "BigInteger") => {
                let whole = 8 + 8 * self.source.below(2);
                let bytes: Vec<u8> = (0..whole).map(|_| self.source.next() as u8).collect();
                visitor.visit_bytes(&bytes)
            }
            ("Password", _) => visitor.visit_bytes(self.source.text().as_bytes()),
            _ => visitor.visit_bytes(&self.source.bytes()),
        }
    }

    fn deserialize_option<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value> {
        let there = match (self.place.within, self.place.at) {
            ("CustomAttribute", "value") | ("UnknownAttribute" | "named", _) => true,
            ("Attribute", "index") if !self.source.indices => false,
            _ => self.source.some(),
        };
        if there {
            visitor.visit_some(self)
        } else {
            visitor.visit_none()
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'static>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        let at = self.place.at;
        let place = Place {
            outer: at,
            within: name,
            at,
        };
        visitor.visit_newtype_struct(Random {
            place,
            ..self.same()
        })
    }

    fn deserialize_seq<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value> {
        let left = match self.place.at {
            // Fields that hold one attribute.
            "attribute" => 1,
            "current" => usize::from(self.source.some()),
            _ => (0..3).filter(|_| self.source.some()).count(),
        };
        visitor.visit_seq(Several { random: self, left })
    }

    fn deserialize_struct<V: Visitor<'static>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match name {
            "Raw" => {
                let digits: String = self
                    .raw()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                visitor.visit_map(MapDeserializer::new([("item", digits)].into_iter()))
            }
            "UnknownAttribute" => {
                // By name, by name without it, or by tag.
                let (fields, within): (&'static [&'static str], _) = match self.source.below(3) {
                    0 => (fields, "named"),
                    1 => (&["value"], "named"),
                    _ => (&["value"], name),
                };
                visitor.visit_map(Fields {
                    random: self,
                    within,
                    fields: fields.iter(),
                    next: "",
                })
            }
            _ => visitor.visit_map(Fields {
                random: self,
                within: name,
                fields: fields.iter(),
                next: "",
            }),
        }
    }

    fn deserialize_enum<V: Visitor<'static>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let forced = self.source.forced.take_if(|(forced, _)| *forced == name);
        let variant = variants[forced.map_or_else(
            || self.source.below(variants.len()),
            |(_, n)| n % variants.len(),
        )];
        self.source
            .enums
            .entry(name)
            .or_insert((variants, BTreeSet::new()))
            .1
            .insert(variant);
        visitor.visit_enum(Variant {
            random: self,
            within: name,
            variant,
        })
    }

    serde::forward_to_deserialize_any! {
        <W: Visitor<'static>>
        i8 i16 i128 u8 u16 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

struct Several<'s> {
    random: Random<'s>,
    left: usize,
}

impl SeqAccess<'static> for Several<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'static>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(self.random.same()).map(Some)
    }
}

struct Fields<'s> {
    random: Random<'s>,
    within: &'static str,
    fields: std::slice::Iter<'static, &'static str>,
    next: &'static str,
}

impl MapAccess<'static> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'static>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let Some(name) = self.fields.next() else {
            return Ok(None);
        };
        self.next = name;
        seed.deserialize(BorrowedStrDeserializer::new(name))
            .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'static>>(&mut self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.random.at(self.within, self.next))
    }
}

struct Variant<'s> {
    random: Random<'s>,
    within: &'static str,
    variant: &'static str,
}

impl<'s> EnumAccess<'static> for Variant<'s> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'static>>(self, seed: T) -> Result<(T::Value, Self)> {
        let variant = seed.deserialize(BorrowedStrDeserializer::new(self.variant))?;
        Ok((variant, self))
    }
}

impl VariantAccess<'static> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'static>>(mut self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.random.at(self.within, self.variant))
    }

    fn tuple_variant<V: Visitor<'static>>(mut self, left: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Several {
            random: self.random.at(self.within, self.variant),
            left,
        })
    }

    fn struct_variant<V: Visitor<'static>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let within = self.within;
        visitor.visit_map(Fields {
            random: self.random,
            within,
            fields: fields.iter(),
            next: "",
        })
    }
}
