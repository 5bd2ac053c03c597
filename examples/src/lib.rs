//! What the examples on a store share: a schema or a namespace for one run, so that they leave nothing
//! behind. The examples stand beside it, one idea each, and the demo in `demo/`.

mod scratch;
mod space;

pub use scratch::Scratch;
pub use space::Space;
