//! Reports: figures and timelines as one HTML page that needs nothing else.

pub mod html;
pub mod lanes;
pub mod svg;
