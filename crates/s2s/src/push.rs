pub(crate) mod bulk;
pub(crate) mod explore;
pub(crate) mod notice;
pub(crate) mod notifier;
pub(crate) mod publication;
pub(crate) mod publish;
pub(crate) mod register;
pub(crate) mod running;
