//! Nothing is in here: the examples stand beside it, one idea each, and the demo in `demo/`.
