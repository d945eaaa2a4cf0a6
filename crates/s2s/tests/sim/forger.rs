//! The adversary of the hostile runs: it takes well-formed messages apart and puts together others, from pieces that it has seen anywhere and
//! from values that nobody has said.

use crate::rng::Rng;
use keyferry_kmip::{RequestMessage, ResponseMessage, extension as x};
use keyferry_s2s::Copy;
use keyferry_store::record::copy_digest;
use keyferry_ttlv::Version;
use std::collections::HashMap;

/// How many pieces of one tag are remembered.
const REMEMBERED: usize = 40;

/// A structure taken apart, or a whole item that is none.
#[derive(Clone)]
enum Piece {
    Structure(u32, Vec<Piece>),
    Leaf(Vec<u8>),
}

impl Piece {
    fn tag(&self) -> u32 {
        match self {
            Piece::Structure(tag, _) => *tag,
            Piece::Leaf(bytes) => u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
        }
    }

    /// Takes one item apart, and returns what follows it.
    fn take(bytes: &[u8]) -> Option<(Piece, &[u8])> {
        let length = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
        let padded = length.next_multiple_of(8);
        let content = bytes.get(8..8 + padded)?;
        let rest = &bytes[8 + padded..];
        if bytes[3] != 1 {
            return Some((Piece::Leaf(bytes[..8 + padded].to_vec()), rest));
        }
        let (mut children, mut inside) = (Vec::new(), content);
        while !inside.is_empty() {
            let (child, after) = Piece::take(inside)?;
            children.push(child);
            inside = after;
        }
        let tag = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        Some((Piece::Structure(tag, children), rest))
    }

    fn put(&self, to: &mut Vec<u8>) {
        match self {
            Piece::Leaf(bytes) => to.extend_from_slice(bytes),
            Piece::Structure(tag, children) => {
                to.extend_from_slice(&tag.to_be_bytes()[1..]);
                to.extend_from_slice(&[1, 0, 0, 0, 0]);
                let start = to.len();
                children.iter().for_each(|child| child.put(to));
                let length = u32::try_from(to.len() - start).unwrap();
                to[start - 4..start].copy_from_slice(&length.to_be_bytes());
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            Piece::Leaf(_) => 1,
            Piece::Structure(_, children) => 1 + children.iter().map(Piece::count).sum::<usize>(),
        }
    }

    /// Calls `f` with each piece, the outer ones first.
    fn visit(&mut self, f: &mut impl FnMut(&mut Piece)) {
        f(self);
        if let Piece::Structure(_, children) = self {
            children.iter_mut().for_each(|child| child.visit(f));
        }
    }
}

/// What the adversary knows, and how it forges.
pub struct Forger {
    pub rng: Rng,
    /// The pieces that it has seen, by their tags.
    seen: HashMap<u32, Vec<Piece>>,
    /// How many messages it has forged.
    pub forged: usize,
}

/// What stands around the payloads stays as it is, or no server would read the rest.
const ENVELOPE: [u32; 12] = [
    0x42_0078, 0x42_0077, 0x42_0069, 0x42_006A, 0x42_006B, 0x42_000D, 0x42_000F, 0x42_005C,
    0x42_007B, 0x42_007A, 0x42_0092, 0x42_007F,
];

impl Forger {
    pub fn new(rng: Rng) -> Forger {
        Forger {
            rng,
            seen: HashMap::new(),
            forged: 0,
        }
    }

    /// Remembers all pieces of a message.
    pub fn learn(&mut self, bytes: &[u8]) {
        let Some((mut message, _)) = Piece::take(bytes) else {
            return;
        };
        let (seen, rng) = (&mut self.seen, &mut self.rng);
        message.visit(&mut |piece| {
            let known = seen.entry(piece.tag()).or_default();
            if known.len() < REMEMBERED {
                known.push(piece.clone());
            } else {
                known[rng.below(REMEMBERED)] = piece.clone();
            }
        });
    }

    pub fn forge_request(&mut self, message: &RequestMessage) -> RequestMessage {
        let frame = message.to_frame().unwrap();
        self.learn(&frame);
        let forged = self.forge(&frame);
        RequestMessage::from_frame(&forged).unwrap_or_else(|_| message.clone())
    }

    pub fn forge_response(&mut self, message: &ResponseMessage) -> ResponseMessage {
        let frame = message.to_frame().unwrap();
        self.learn(&frame);
        let forged = self.forge(&frame);
        ResponseMessage::from_frame(&forged).unwrap_or_else(|_| message.clone())
    }

    fn forge(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (mut message, _) = Piece::take(bytes).unwrap();
        for _ in 0..self.rng.below(5) {
            let mut at = self.rng.below(message.count());
            let forger = &mut *self;
            let mut done = false;
            message.visit(&mut |piece| {
                if at == 0 && !done {
                    done = true;
                    forger.change(piece);
                }
                at = at.saturating_sub(1);
            });
        }
        if !self.rng.one_in(8) {
            message.visit(&mut fit_digest);
        }
        self.forged += 1;
        let mut forged = Vec::new();
        message.put(&mut forged);
        forged
    }

    /// Changes one piece.
    fn change(&mut self, piece: &mut Piece) {
        if ENVELOPE.contains(&piece.tag()) {
            return;
        }
        let known = self.seen.get(&piece.tag()).map_or(0, Vec::len);
        if known > 0 && self.rng.one_in(2) {
            let at = self.rng.below(known);
            *piece = self.seen[&piece.tag()][at].clone();
            return;
        }
        match piece {
            Piece::Structure(_, children) if !children.is_empty() => {
                let at = self.rng.below(children.len());
                match self.rng.below(3) {
                    0 => drop(children.remove(at)),
                    1 => {
                        let again = children[at].clone();
                        children.insert(at, again);
                    }
                    _ => {
                        let other = self.rng.below(children.len());
                        children.swap(at, other);
                    }
                }
            }
            Piece::Structure(..) => {}
            Piece::Leaf(bytes) => self.change_value(bytes),
        }
    }

    fn change_value(&mut self, item: &mut Vec<u8>) {
        let length = u32::from_be_bytes(item[4..8].try_into().unwrap()) as usize;
        let ty = item[3];
        match ty {
            // Integer, Enumeration, Boolean.
            2 | 5 => {
                let value = u32::from_be_bytes(item[8..12].try_into().unwrap());
                let small = self.rng.below(7) as u32;
                let new = [
                    value.wrapping_add(1),
                    value.wrapping_sub(1),
                    small,
                    u32::MAX,
                ][self.rng.below(4)];
                item[8..12].copy_from_slice(&new.to_be_bytes());
            }
            6 => item[15] ^= 1,
            // Long Integer, Date-Time.
            3 | 9 => {
                let value = i64::from_be_bytes(item[8..16].try_into().unwrap());
                let new = match self.rng.below(6) {
                    0 => value.wrapping_add(1),
                    1 => value.wrapping_sub(1),
                    2 => value.wrapping_add(self.rng.below(1000) as i64),
                    3 => 0,
                    4 => i64::MAX,
                    _ => -1,
                };
                item[8..16].copy_from_slice(&new.to_be_bytes());
            }
            // Text String, Byte String.
            7 | 8 => {
                let text = [
                    "a",
                    "b",
                    "c",
                    "m",
                    "x",
                    "1",
                    "2",
                    "",
                    "client",
                    "centre\nroot",
                ];
                let value: Vec<u8> = match self.rng.below(4) {
                    0 if ty == 8 => self.rng.id().to_vec(),
                    1 if length > 0 && ty == 8 => {
                        let mut value = item[8..8 + length].to_vec();
                        let at = self.rng.below(length);
                        value[at] ^= 1 << self.rng.below(8);
                        value
                    }
                    _ => text[self.rng.below(text.len())].as_bytes().to_vec(),
                };
                item.truncate(4);
                item.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                item.extend_from_slice(&value);
                item.resize(item.len().next_multiple_of(8), 0);
            }
            _ => {}
        }
    }
}

/// Gives the copy in a change the digest of its attributes, as whoever makes copies up does.
fn fit_digest(piece: &mut Piece) {
    let Piece::Structure(tag, children) = piece else {
        return;
    };
    if *tag != x::CHANGE.number() {
        return;
    }
    let object_type = children.iter().find_map(|child| match child {
        Piece::Leaf(bytes) if child.tag() == 0x42_0057 => {
            Some(u32::from_be_bytes(bytes[8..12].try_into().unwrap()))
        }
        _ => None,
    });
    let Some(copy) = children
        .iter_mut()
        .find(|child| child.tag() == x::COPY.number())
    else {
        return;
    };
    let mut bytes = Vec::new();
    copy.put(&mut bytes);
    let cx = keyferry_kmip::context(Version::V2_1);
    let Ok(mut typed) = keyferry_ttlv::decode::<Copy>(&bytes, cx) else {
        return;
    };
    let object_type = keyferry_kmip::spec::ObjectType(object_type.unwrap_or(2));
    let Ok(digest) = copy_digest(object_type, &typed.unrepresentable) else {
        return;
    };
    typed.digest = digest;
    let Ok(frame) = keyferry_ttlv::encode(&typed, cx) else {
        return;
    };
    if let Some((fitted, _)) = Piece::take(&frame) {
        *copy = fitted;
    }
}
