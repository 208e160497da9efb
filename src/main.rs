//! The `flightline` program: arguments, then a server or one client command.

use std::process::ExitCode;

use flightline::cli;
use mimalloc::MiMalloc;

// Arrow makes and frees many large buffers on many threads; glibc's allocator fragments under that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
