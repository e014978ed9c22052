//! Asking a filter about a connection allocates nothing, unless a function builds a string.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ringhub_protocol::rest::filter::{Filter, Subject};

struct Counting;

thread_local! {
    /// By thread, because the test harness allocates on others meanwhile.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Ann;

impl Subject for Ann {
    fn connection_id(&self) -> &str {
        "c1"
    }

    fn user(&self) -> Option<&str> {
        Some("ann😀")
    }

    fn protocol(&self) -> Option<&str> {
        None
    }

    fn is_in(&self, group: &str) -> bool {
        group == "red"
    }

    fn group_count(&self) -> usize {
        1
    }
}

fn allocations(text: &str) -> u64 {
    let filter = Filter::parse(text).expect("a filter").expect("not blank");
    let before = ALLOCATIONS.get();
    filter.matches(&Ann);
    let clone = filter.clone();
    let after = ALLOCATIONS.get();
    drop(clone);
    after - before
}

#[test]
fn the_usual_shapes_allocate_nothing() {
    for text in [
        "userId eq 'ann' or connectionId ne 'c1' or protocol eq 'p' or protocol eq null",
        "userId in ('a', 'b', null) or connectionId in ('c', userId)",
        "'red' in groups and not ('blue' in groups) and ('red' in groups) eq true",
        "length(groups) gt 0 and length(userId) le 5 and length(protocol) ne null",
        "startswith(userId, 'a') and endswith(userId, '😀') and contains(userId, 'nn') and indexof(userId, 'n') eq 1",
        // What these return is part of what they got.
        "tolower(connectionId) eq 'c1' and trim(userId) ne '' and substring(userId, 1, 2) eq 'nn'",
        "concat(userId, null) eq 'ann' or concat(protocol, 'x') eq 'x'",
    ] {
        assert_eq!(allocations(text), 0, "{text}");
    }
    assert!(allocations("toupper(userId) eq 'ANN'") > 0, "the counter counts");
}
