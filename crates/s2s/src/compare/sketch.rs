//! A sketch of a set, small however large the set is, by which two servers find out which members only one of them has.
//!
//! It is the rateless invertible Bloom lookup table of Lei Yang, Yossi Gilad and Mohammad Alizadeh, "Practical Rateless Set Reconciliation",
//! SIGCOMM 2024. A set has an endless sequence of [`Cell`]s. Each is the sum of some members: cell 0 of all, cell `i` of about one in `1 + i/2`.
//! One server sends the first cells of its set, the other subtracts those of its own ([`subtract`]). What both have cancels out, and a cell in
//! which one single member is left gives that member away. The [`Decoder`] takes it out of the other cells, where it may leave single ones in
//! turn. If cells do not suffice, the next ones of the same sequence are added to them: nothing is sent twice.
//!
//! A thousand members that differ take about 1.4 cells each, ten of them 1.8. Now and then it is more: two members may share all of the first
//! `m` cells, with a probability of about 170/m⁴, and are not told apart before one is in a cell without the other. Among `d` members, this is
//! about 85·d²/m⁴.
//!
//! The members must be distinct. One that a side adds twice is a difference that is never found.
//!
//! # What may go wrong
//!
//! A cell that holds several members passes for one with a single member if its count is 1 or -1, its check agrees by chance (2⁻³²) and the
//! member that it seems to hold belongs into this very cell. For a thousand changed objects, the decoder looks at some 3000 cells whose count
//! misleads, so it happens in less than one of a million comparisons. It does no harm then: the member that does not exist is left over, as a
//! lack, in all of its cells, and turns up once more as soon as cells suffice. That is [`Outcome::Garbage`]. For a wrong [`Outcome::Done`], sums
//! of 160 bits would have to vanish by chance in every cell.
//!
//! Who has the key can make cells that decode to anything; but then, a peer can lie about its set in simpler ways, too. Nobody can make the
//! decoder panic or go on for ever: it recovers no more members than it has cells. Their number is up to the caller. Who lacks the key can't
//! tell into which cells a member goes, even if its tags are known, and so can't choose members that stay together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

#[cfg(test)]
mod tests;

/// A member of the set: what stands for an object and the state of the copy that a server has. Both are keyed digests.
///
/// An object that differs between two servers is two members with the same `object`, one on each side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Leaf {
    pub(crate) object: [u8; 8],
    pub(crate) copy: [u8; 8],
}

/// The secret that both servers take for one comparison, as the two words of SipHash.
#[derive(Clone, Copy)]
pub(crate) struct Key(u64, u64);

impl Key {
    /// Both servers must have the same bytes. New ones for every comparison make an unlucky one unlikely to be so again.
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Key(low(both), low(both >> 64))
    }

    /// SipHash-2-4 (Aumasson and Bernstein, 2012) of two words.
    fn hash(&self, first: u64, second: u64) -> u64 {
        let mut v = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let length = 16 << 56;
        for word in [first, second, length] {
            v[3] ^= word;
            v = sip_round(sip_round(v));
            v[0] ^= word;
        }
        v[2] ^= 0xff;
        v = sip_round(sip_round(sip_round(sip_round(v))));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

fn sip_round([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    let (a, c) = (a.wrapping_add(b), c.wrapping_add(d));
    let (b, d) = (b.rotate_left(13) ^ a, d.rotate_left(16) ^ c);
    let (a, c) = (a.rotate_left(32).wrapping_add(d), c.wrapping_add(b));
    let (b, d) = (b.rotate_left(17) ^ c, d.rotate_left(21) ^ a);
    [a, b, c.rotate_left(32), d]
}

/// The low half of a number.
fn low(number: u128) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = number.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A leaf in the form in which it is added to cells. `hash` chooses these cells, and its upper half is the check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    object: u64,
    copy: u64,
    hash: u64,
}

impl Member {
    fn new(key: &Key, object: u64, copy: u64) -> Self {
        let hash = key.hash(object, copy);
        Member { object, copy, hash }
    }

    fn of(key: &Key, leaf: Leaf) -> Self {
        let (object, copy) = (leaf.object, leaf.copy);
        Member::new(key, u64::from_le_bytes(object), u64::from_le_bytes(copy))
    }

    fn leaf(&self) -> Leaf {
        let (object, copy) = (self.object.to_le_bytes(), self.copy.to_le_bytes());
        Leaf { object, copy }
    }

    fn check(&self) -> u32 {
        let [.., a, b, c, d] = self.hash.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn walk(&self) -> Walk {
        let (at, state) = (0, self.hash);
        Walk { at, state }
    }
}

/// The way of one member along the sequence: it is in the cell `at`, and [`advance`](Walk::advance) leads to the next one it is in.
///
/// Cell `i` has a member with the probability 1/(1 + i/2), independently. So the next cell after `i` lies beyond `j` with the probability
/// (i+1)(i+2) / (j+1)(j+2), which is nearly ((i+1.5) / (j+1.5))². The larger of two uniform random numbers is below `t` with the
/// probability t²: the next cell is the first with j+1.5 > (i+1.5) / (the larger of two). It takes integers only, and so comes out the same
/// on every machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Walk {
    at: u64,
    state: u64,
}

impl Walk {
    /// Only for a walk that is at a cell whose number fits 32 bits. Then nothing overflows, and the next one is farther on.
    fn advance(&mut self) {
        // The generator SplitMix64 (Steele, Lea and Flood, 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = mixed ^ (mixed >> 31);
        // Two numbers of 31 bits; 2³¹ stands for 1.
        let larger = (random >> 33).max(random & 0x7fff_ffff) + 1;
        let doubled = ((2 * self.at + 3) << 31) / larger;
        self.at = (doubled - 1) / 2;
    }

    fn reaches(mut self, cell: u64) -> bool {
        while self.at < cell {
            self.advance();
        }
        self.at == cell
    }
}

/// The sum of some members. Tags and checks are added by exclusive or; the count tells how many there are.
///
/// In a difference of two sets, the count is that of one side less that of the other.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Cell {
    object: u64,
    copy: u64,
    check: u32,
    count: i64,
}

impl Cell {
    /// Adds a member so many times. Taking out is the same with the number negated. Counts wrap, since a peer may send any.
    fn add(&mut self, member: &Member, times: i64) {
        self.object ^= member.object;
        self.copy ^= member.copy;
        self.check ^= member.check();
        self.count = self.count.wrapping_add(times);
    }

    fn minus(&self, other: &Cell) -> Cell {
        Cell {
            object: self.object ^ other.object,
            copy: self.copy ^ other.copy,
            check: self.check ^ other.check,
            count: self.count.wrapping_sub(other.count),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Cell::default()
    }

    fn may_be_single(&self) -> bool {
        matches!(self.count, 1 | -1)
    }

    /// The only member of the cell with this number, if it looks as if it had just one.
    fn single(&self, key: &Key, number: u64) -> Option<Member> {
        if !self.may_be_single() {
            return None;
        }
        let member = Member::new(key, self.object, self.copy);
        let is_single = member.check() == self.check && member.walk().reaches(number);
        is_single.then_some(member)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.object.to_le_bytes());
        out.extend(self.copy.to_le_bytes());
        out.extend(self.check.to_le_bytes());
        let mut rest = (self.count.cast_unsigned() << 1) ^ (self.count >> 63).cast_unsigned();
        while rest > 0x7f {
            out.extend((rest | 0x80).to_le_bytes().first());
            rest >>= 7;
        }
        out.extend(rest.to_le_bytes().first());
    }

    fn read(from: &mut &[u8]) -> Option<Cell> {
        let object = u64::from_le_bytes(take(from)?);
        let copy = u64::from_le_bytes(take(from)?);
        let check = u32::from_le_bytes(take(from)?);
        let mut folded = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = take(from)?;
            let bits = u64::from(byte & 0x7f) << shift;
            // Every number has one form: no bits beyond the 64th, no zeros in front.
            if bits >> shift != u64::from(byte & 0x7f) || (byte == 0 && shift > 0) {
                return None;
            }
            folded |= bits;
            if byte & 0x80 == 0 {
                let count = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
                return Some(Cell {
                    object,
                    copy,
                    check,
                    count,
                });
            }
        }
        None
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*first)
}

/// The cells as bytes, one after the other: the sums of the two tags and of the checks (8, 8 and 4 bytes), then the count in groups of seven
/// bits, the lowest first. The sign of the count is its lowest bit. With a million members, a cell after the first hundreds takes 22 bytes.
pub(crate) fn to_bytes(cells: &[Cell]) -> Vec<u8> {
    let mut out = Vec::with_capacity(cells.len().saturating_mul(23));
    cells.iter().for_each(|cell| cell.write(&mut out));
    out
}

/// The cells that [`to_bytes`] has written. `None` if the bytes aren't exactly that. A cell takes up 21 bytes or more, and 32 in memory.
pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Vec<Cell>> {
    let mut cells = Vec::with_capacity(bytes.len() / 21);
    while !bytes.is_empty() {
        cells.push(Cell::read(&mut bytes)?);
    }
    Some(cells)
}

/// The cells of a set whose numbers are in `range`. They are all in memory; the members are not, and are gone through once.
///
/// Reading on from cell 4096 costs as much as starting again, but only what is new is to be sent.
pub(crate) fn cells(key: &Key, leaves: impl Iterator<Item = Leaf>, range: Range<u32>) -> Vec<Cell> {
    let mut cells = vec![Cell::default(); range.len()];
    for leaf in leaves {
        let member = Member::of(key, leaf);
        let mut walk = member.walk();
        while walk.at < u64::from(range.end) {
            if let Some(at) = walk.at.checked_sub(u64::from(range.start))
                && let Some(cell) = cell_mut(&mut cells, at)
            {
                cell.add(&member, 1);
            }
            walk.advance();
        }
    }
    cells
}

fn cell_mut(cells: &mut [Cell], at: u64) -> Option<&mut Cell> {
    cells.get_mut(usize::try_from(at).ok()?)
}

/// The cells of the difference between two sets, from their cells with the same numbers. `None` if one side has more of them.
pub(crate) fn subtract(theirs: &[Cell], ours: &[Cell]) -> Option<Vec<Cell>> {
    let pairs = theirs.iter().zip(ours);
    (theirs.len() == ours.len()).then(|| pairs.map(|(their, our)| their.minus(our)).collect())
}

/// What has come out of the cells so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// All that differs, in order.
    Done {
        only_there: Vec<Leaf>,
        only_here: Vec<Leaf>,
    },
    /// These cells do not suffice. The next ones may.
    More,
    /// No two sets have these cells, or a check has failed to tell members apart. It stays so: more cells do not help; another key may.
    Garbage,
}

/// A member that was recovered, and the next cell that it is to be taken out of when the decoder gets that one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    walk: Walk,
    member: Member,
    side: i64,
}

/// Finds the members in the cells of a difference. It keeps what it has found, and goes on from there when it gets further cells.
///
/// The time of all calls together is about that of making the cells of the recovered members, however the cells are portioned. Only to tell
/// [`Outcome::Done`] takes time for each recovered member, so who knows it should not ask again.
pub(crate) struct Decoder {
    key: Key,
    cells: Vec<Cell>,
    not_empty: usize,
    candidates: Vec<u64>,
    recovered: BTreeMap<Leaf, i64>,
    pending: BinaryHeap<Reverse<Pending>>,
    is_garbage: bool,
}

impl Decoder {
    pub(crate) fn new(key: Key) -> Self {
        Decoder {
            key,
            cells: Vec::new(),
            not_empty: 0,
            candidates: Vec::new(),
            recovered: BTreeMap::new(),
            pending: BinaryHeap::new(),
            is_garbage: false,
        }
    }

    /// Adds the cells of the difference that follow those it has; at first, those from 0 on.
    pub(crate) fn extend(&mut self, difference: impl IntoIterator<Item = Cell>) {
        for cell in difference {
            let at = self.len();
            self.cells.push(cell);
            self.not_empty += usize::from(!cell.is_empty());
            self.candidates.extend(cell.may_be_single().then_some(at));
        }
        self.take_out();
    }

    /// Recovers what can be recovered.
    pub(crate) fn decode(&mut self) -> Outcome {
        while !self.is_garbage
            && let Some(at) = self.candidates.pop()
        {
            let Some(cell) = cell_mut(&mut self.cells, at) else {
                continue;
            };
            let Some(member) = cell.single(&self.key, at) else {
                continue;
            };
            // A recovered member leaves an empty cell behind. In the difference of two sets, it stays empty.
            let side = cell.count;
            let is_full = self.recovered.len() == self.cells.len();
            self.is_garbage = is_full || self.recovered.insert(member.leaf(), side).is_some();
            let walk = member.walk();
            self.pending.push(Reverse(Pending { walk, member, side }));
            self.take_out();
        }
        self.outcome()
    }

    /// Takes what was recovered out of all cells that it has not yet been taken out of.
    fn take_out(&mut self) {
        let len = self.len();
        while let Some(mut first) = self.pending.peek_mut()
            && first.0.walk.at < len
        {
            let Pending { walk, member, side } = first.0;
            first.0.walk.advance();
            if let Some(cell) = cell_mut(&mut self.cells, walk.at) {
                let was_empty = cell.is_empty();
                cell.add(&member, -side);
                self.not_empty += usize::from(was_empty);
                self.not_empty -= usize::from(cell.is_empty());
                self.candidates
                    .extend(cell.may_be_single().then_some(walk.at));
            }
        }
    }

    fn outcome(&self) -> Outcome {
        if self.is_garbage {
            return Outcome::Garbage;
        }
        if self.not_empty > 0 || self.cells.is_empty() {
            return Outcome::More;
        }
        let of = |side| {
            let recovered = self.recovered.iter();
            recovered
                .filter(move |(_, of)| **of == side)
                .map(|(leaf, _)| *leaf)
                .collect()
        };
        let (only_there, only_here) = (of(1), of(-1));
        Outcome::Done {
            only_there,
            only_here,
        }
    }

    /// The number of the next cell. No walk goes beyond 32 bits, so cells there would merely stay as they are.
    fn len(&self) -> u64 {
        u32::try_from(self.cells.len()).unwrap_or(u32::MAX).into()
    }
}
