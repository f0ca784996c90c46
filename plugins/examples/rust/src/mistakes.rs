//! Unintended failures of Rust code. The host's tests check the error message of each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::process;

pub fn make(name: &str) -> ! {
    match name {
        "panic" => panic!("no bolts left"),
        "two-lines" => panic!("first line\nsecond line"),
        "unwrap" => {
            "no number".parse::<u32>().unwrap();
        }
        "index" => {
            let bolts: HashMap<&str, u32> = HashMap::new();
            process::exit(bolts["m4"] as i32);
        }
        "assertion" => assert_eq!(name.len(), 4, "stock is wrong"),
        "borrow" => {
            let stock = RefCell::new(0);
            let _first = stock.borrow_mut();
            let _second = stock.borrow_mut();
        }
        "exit" => {
            eprintln!("out of paper");
            process::exit(3);
        }
        "abort" => {
            eprintln!("no bolts left");
            process::abort();
        }
        _ => {}
    }
    panic!("no mistake is called {name}")
}
