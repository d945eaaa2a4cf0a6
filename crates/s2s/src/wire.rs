pub(crate) mod copy;
pub(crate) mod follow;
pub(crate) mod place;
pub(crate) mod server_information;
pub(crate) mod turn;
