//! The flag by which a core says that it sleeps, so that it is woken once and only then (rule 4).
//!
//! The sleeper announces, then looks at its queues once more, then waits. The waker puts something into a
//! queue, then asks. Both have a full fence between their write and their read, so at least one of them sees
//! the other: nothing stays in a queue with the sleeper waiting and nobody ringing. Who must ring has also seen
//! everything the sleeper made known before it announced itself, such as where to ring. Models in the tests try the
//! interleavings; the queues themselves are crossbeam's.

macro_rules! sleep_flag {
    ($atomic:ty, $fence:path) => {
        /// See the module.
        #[derive(Debug, Default)]
        pub(crate) struct Sleep {
            asleep: $atomic,
        }

        impl Sleep {
            /// The sleeper is about to wait; it must look at its queues after this.
            pub(crate) fn announce(&self) {
                self.asleep.store(true, Ordering::Release);
                $fence(Ordering::SeqCst);
            }

            /// The sleeper is awake.
            pub(crate) fn awake(&self) {
                self.asleep.store(false, Ordering::Relaxed);
            }

            /// Whether the caller, who just put something into a queue, must ring; says so to one caller only.
            pub(crate) fn must_ring(&self) -> bool {
                $fence(Ordering::SeqCst);
                self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Acquire)
            }
        }
    };
}

use std::sync::atomic::{AtomicBool, Ordering, fence};
sleep_flag!(AtomicBool, fence);

#[cfg(test)]
mod tests {
    mod modelled {
        use loom::sync::atomic::{AtomicBool, Ordering, fence};
        sleep_flag!(AtomicBool, fence);
    }

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

    fn model(check: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(check);
    }

    /// Two wakers put one thing each, as another core and the side thread do; the sleeper either sees it before it
    /// waits or is rung. Without a bound on preemptions the model takes minutes and holds as well.
    #[test]
    fn nobody_sleeps_on_a_full_queue() {
        model(|| {
            let sleep = Arc::new(modelled::Sleep::default());
            let queues = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let bell = Arc::new(AtomicUsize::new(0));
            let wakers: Vec<_> = (0..2)
                .map(|which| {
                    let (sleep, queues, bell) = (Arc::clone(&sleep), Arc::clone(&queues), Arc::clone(&bell));
                    loom::thread::spawn(move || {
                        queues[which].store(1, Ordering::Release);
                        if sleep.must_ring() {
                            bell.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            sleep.announce();
            let seen = queues.iter().filter(|queue| queue.load(Ordering::Acquire) == 1).count();
            let waits = seen == 0;
            if !waits {
                sleep.awake();
            }
            for waker in wakers {
                waker.join().unwrap();
            }
            let rung = bell.load(Ordering::SeqCst);
            assert!(!waits || rung == 1, "it waits, two things are queued, and it was rung {rung} times");
            assert!(rung <= 1);
        });
    }
    /// The flag alone ordered nothing: on a machine that reorders stores, a core could be found asleep before its
    /// ring's descriptor could be seen, and the waker rang at nobody's.
    #[test]
    fn who_must_ring_sees_where() {
        model(|| {
            let sleep = Arc::new(modelled::Sleep::default());
            let ring = Arc::new(AtomicI32::new(-1));
            let waker = {
                let (sleep, ring) = (Arc::clone(&sleep), Arc::clone(&ring));
                loom::thread::spawn(move || {
                    if sleep.must_ring() {
                        assert_eq!(ring.load(Ordering::Relaxed), 7);
                    }
                })
            };
            ring.store(7, Ordering::Relaxed);
            sleep.announce();
            waker.join().unwrap();
        });
    }

    /// A core that sleeps, wakes and sleeps again: what came while it was awake is seen by the second look.
    #[test]
    fn a_second_sleep_is_as_safe_as_the_first() {
        model(|| {
            let sleep = Arc::new(modelled::Sleep::default());
            let (queued, bell) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let waker = {
                let (sleep, queued, bell) = (Arc::clone(&sleep), Arc::clone(&queued), Arc::clone(&bell));
                loom::thread::spawn(move || {
                    for _ in 0..2 {
                        queued.fetch_add(1, Ordering::Release);
                        if sleep.must_ring() {
                            bell.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                })
            };
            let mut taken = 0;
            let mut waits = false;
            for _ in 0..2 {
                sleep.announce();
                let there = queued.load(Ordering::Acquire);
                waits = there == taken;
                if waits {
                    break;
                }
                sleep.awake();
                taken = there;
            }
            waker.join().unwrap();
            let is_left = queued.load(Ordering::Acquire) > taken;
            assert!(
                !waits || !is_left || bell.load(Ordering::SeqCst) >= 1,
                "something is left, and nobody rang"
            );
        });
    }
}
