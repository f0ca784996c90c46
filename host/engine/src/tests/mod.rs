//! Stories of the engine, told with a fake runner.
