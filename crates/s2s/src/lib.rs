//! The server-to-server engine: bulk sessions and the responder
