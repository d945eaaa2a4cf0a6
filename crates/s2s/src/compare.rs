//! How two servers find out whether one holds what the other has told it, and where not: a keyed sum over all that was told proves that nothing differs,
//! and a sketch says what does ([rule 17](crate::design#rule-17)).

pub(crate) mod held;
pub(crate) mod leaf;
pub(crate) mod shared;
pub(crate) mod sketch;
pub(crate) mod table;
