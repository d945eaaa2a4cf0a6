//! A store that many servers share: PostgreSQL
