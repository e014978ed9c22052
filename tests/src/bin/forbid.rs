//! Starts a program from which system calls are taken away: `forbid CALL=ERRNO… -- PROGRAM ARGS…`.
//!
//! A call is its number, or `NUMBER:VALUE` for those with that value as second argument; it fails with the errno
//! instead. The filter is this process's own, and the program takes its place, so nothing here needs unsafe code.
#![forbid(unsafe_code)]

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::env::{args, args_os, consts};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    for rule in args().skip(1).take_while(|rule| rule != "--") {
        let (call, errno) = rule.split_once('=').expect("CALL=ERRNO");
        let (call, value) = call.split_once(':').map_or((call, None), |(call, value)| (call, Some(value)));
        let condition = value.map(|value| {
            let value = value.parse().expect("a number");
            let equal = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
                .expect("a condition");
            SeccompRule::new(vec![equal]).expect("a rule")
        });
        let filter = SeccompFilter::new(
            [(call.parse().expect("a number"), condition.into_iter().collect())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.parse().expect("a number")),
            consts::ARCH.try_into().expect("a machine that is known"),
        );
        let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
        apply_filter(&program).expect("filters may be installed");
    }
    let mut words = args_os().skip_while(|word| word != "--").skip(1);
    let error = Command::new(words.next().expect("a program")).args(words).exec();
    panic!("it cannot be started: {error}");
}
