//! The binary `ringhub`: see the library beside it.

use std::process::ExitCode;

/// Small buffers of very many connections come and go on pinned threads: what this allocator is made for.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringhub::run()
}
