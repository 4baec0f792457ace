//! Hostile requests against the handlers, in process.
