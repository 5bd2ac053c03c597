//! A namespace of its own for each test.

use std::panic::{AssertUnwindSafe, catch_unwind};

use coordinator_servers::Talk;
use coordinator_tests::servers::redis::fresh_space;

use crate::support::Tested;

#[test]
fn the_keys_of_a_test_go_with_it_also_when_it_fails_and_no_others() -> Tested {
    let (Some(one), Some(other)) = (fresh_space(), fresh_space()) else {
        return Ok(());
    };
    assert_ne!(one.name(), other.name());
    let mut talk = Talk::to(one.url())?;
    for key in [
        format!("{{{}:g}}:a", one.name()),
        format!("{}:b", other.name()),
    ] {
        talk.ask(&["SET", &key, "1"])?;
    }
    assert_eq!((one.keys()?.len(), other.keys()?.len()), (1, 1));
    let gone = format!("{{{}:g}}:a", one.name());
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let _one = one;
        panic!("as a failed assertion does");
    }));
    assert!(failed.is_err());
    assert_eq!(talk.ask(&["EXISTS", &gone])?.text(), "0");
    assert_eq!(other.keys()?.len(), 1);
    Ok(())
}
