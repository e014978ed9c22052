//! Asking a filter about a connection allocates nothing, unless a function builds a string; and reading one, also one
//! that is refused, takes memory in proportion to the text, whatever its shape.
//!
//! It is memory that is counted. Most of the work shows in it: every node, level and list of a filter is in an arena,
//! so what is read again and again would be there again and again. A loop that allocates nothing does not show here; it
//! would as time, for the fuzzer's target `filter`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ringhub_protocol::rest::filter::{Filter, Subject};

struct Counting;

thread_local! {
    /// By thread, because the test harness allocates on others meanwhile.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as u64);
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

/// Every shape that nests or repeats, as long as a filter may be and longer.
#[test]
fn reading_costs_in_proportion_to_the_text() {
    const SIZES: [usize; 4] = [100, 1000, 8 << 10, 64 << 10];
    for piece in [
        "(",
        ")",
        "not ",
        "not(",
        "'",
        "''",
        "'a' ",
        "true and ",
        "(true or ",
        "length(",
        "concat('a', ",
        "userId in (",
        "1 in (1, ",
        "(1, ",
        ", ",
        "userId eq ",
        "9",
        "-",
        " ",
        "\t",
        "a",
        "\u{e9}",
        "\0",
        "eq ",
        "groups",
        "'g' in groups or ",
        "trim(trim(",
        "substring(userId, ",
        "contains(userId, 'a') or ",
    ] {
        for size in SIZES {
            let text = piece.repeat(size / piece.len());
            for text in [
                text.clone(),
                format!("{text}true"),
                format!("true and {text}"),
                format!("userId in ({text}"),
            ] {
                let (allocations, bytes) = (ALLOCATIONS.get(), BYTES.get());
                let filter = Filter::parse(&text);
                let (allocations, bytes) = (ALLOCATIONS.get() - allocations, BYTES.get() - bytes);
                drop(filter);
                let read = text.len().min(8 << 10) as u64;
                assert!(bytes <= 100 * read + 16_384, "{bytes} bytes for {} of {piece:?}", text.len());
                assert!(
                    allocations <= 2 * read + 100,
                    "{allocations} allocations for {} of {piece:?}",
                    text.len()
                );
            }
        }
    }
}

/// What is over the bound is not read: it costs its error, however long it is.
#[test]
fn what_is_too_long_costs_the_same_at_any_length() {
    for piece in ["(", "true and ", "'x' in groups or ", "not "] {
        let cost = |size: usize| {
            let text = piece.repeat(size / piece.len());
            let before = BYTES.get();
            assert!(Filter::parse(&text).is_err());
            BYTES.get() - before
        };
        let small = cost(9 << 10);
        // The length that the error tells has more digits.
        assert!(cost(10 << 20) <= small + 16 && small < 8 << 10, "{piece:?}: {small} bytes");
    }
}
