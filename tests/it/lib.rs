//! Empty: the tests of the whole product are one binary, `main.rs`.
