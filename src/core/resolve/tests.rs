//! Tables of the outcomes.
