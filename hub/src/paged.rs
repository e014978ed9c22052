//! A slab in pages: records keep their place, and growing copies nothing.
//!
//! One vector that doubles would copy every record of a million connections in a single turn, and hold, until
//! the allocator lets go, as much again as it holds. Here a full page is followed by another one. The lowest
//! vacant slot is taken first, so records stay dense, are walked in memory order, and pages at the end fall
//! free when clients leave.

use std::ops::{Index, IndexMut};

/// Records of one page.
const PAGE: usize = 256;

/// Records by slot.
#[derive(Debug)]
pub struct Paged<T> {
    pages: Vec<Page<T>>,
    len: usize,
    /// No page before this one has a vacant slot.
    roomy: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// At most [`PAGE`] of them; what no slot was needed for yet is not there.
    records: Vec<Option<T>>,
    used: usize,
    /// No slot before this one is vacant.
    vacant: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0, roomy: 0 }
    }
}

impl<T> Paged<T> {
    /// Nothing, without heap.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot the next [`Paged::insert`] takes.
    pub fn vacant_key(&self) -> usize {
        match self.pages.get(self.roomy) {
            Some(page) => self.roomy * PAGE + page.vacant,
            None => self.pages.len() * PAGE,
        }
    }

    /// Puts a record into the lowest vacant slot; returns the slot.
    pub fn insert(&mut self, record: T) -> usize {
        if self.roomy == self.pages.len() {
            // The first page grows: most hubs are small.
            let records = if self.pages.is_empty() { Vec::new() } else { Vec::with_capacity(PAGE) };
            self.pages.push(Page { records, used: 0, vacant: 0 });
        }
        let slot = self.vacant_key();
        let page = &mut self.pages[self.roomy];
        match page.records.get_mut(page.vacant) {
            Some(vacant) => *vacant = Some(record),
            None => page.records.push(Some(record)),
        }
        page.used += 1;
        self.len += 1;
        let vacant = page.records[page.vacant..].iter().position(Option::is_none);
        page.vacant = vacant.map_or(page.records.len(), |ahead| page.vacant + ahead);
        while self.pages.get(self.roomy).is_some_and(|page| page.used == PAGE) {
            self.roomy += 1;
        }
        slot
    }

    /// Takes a record out, if there is one. Pages that are left empty at the end are freed, but for one.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        let (page_at, at) = (slot / PAGE, slot % PAGE);
        let page = self.pages.get_mut(page_at)?;
        let record = page.records.get_mut(at)?.take()?;
        page.used -= 1;
        page.vacant = page.vacant.min(at);
        self.len -= 1;
        self.roomy = self.roomy.min(page_at);
        while let [.., last, spare] = &self.pages[..]
            && last.used == 0
            && spare.used == 0
        {
            self.pages.pop();
        }
        Some(record)
    }

    /// The record in a slot.
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.pages.get(slot / PAGE)?.records.get(slot % PAGE)?.as_ref()
    }

    /// The record in a slot, to be changed.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.pages.get_mut(slot / PAGE)?.records.get_mut(slot % PAGE)?.as_mut()
    }

    /// All records with their slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let pages = (0..).step_by(PAGE).zip(&self.pages);
        let records = pages.flat_map(|(first, page)| (first..).zip(&page.records));
        records.filter_map(|(slot, record)| Some((slot, record.as_ref()?)))
    }
}

/// # Panics
/// If the slot is vacant.
impl<T> Index<usize> for Paged<T> {
    type Output = T;

    fn index(&self, slot: usize) -> &T {
        self.get(slot).expect("the slot holds a record")
    }
}

/// # Panics
/// If the slot is vacant.
impl<T> IndexMut<usize> for Paged<T> {
    fn index_mut(&mut self, slot: usize) -> &mut T {
        self.get_mut(slot).expect("the slot holds a record")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn pages_come_and_go_with_the_records() {
        let mut paged = Paged::new();
        for n in 0..3 * PAGE {
            assert_eq!((paged.vacant_key(), paged.insert(n)), (n, n));
        }
        assert_eq!((paged.len(), paged.pages.len()), (3 * PAGE, 3));
        for n in PAGE..3 * PAGE {
            assert_eq!(paged.remove(n), Some(n));
        }
        assert_eq!(
            paged.pages.len(),
            2,
            "one empty page is kept: a client that comes and goes frees nothing"
        );
        assert_eq!((paged.remove(7), paged.remove(7), paged.remove(9999)), (Some(7), None, None));
        assert_eq!((paged.insert(1), paged.insert(2)), (7, PAGE), "the lowest vacant slots");
    }

    proptest! {
        #[test]
        fn is_a_map_that_takes_the_lowest_vacant_slot(steps in prop::collection::vec((any::<bool>(), 0..600usize), 0..2000)) {
            let mut paged = Paged::new();
            let mut model = BTreeMap::new();
            for (step, (insert, slot)) in steps.into_iter().enumerate() {
                if insert {
                    let lowest = (0..).find(|slot| !model.contains_key(slot)).expect("there is no end");
                    prop_assert_eq!(paged.insert(step), lowest);
                    model.insert(lowest, step);
                } else {
                    prop_assert_eq!(paged.remove(slot), model.remove(&slot));
                }
                prop_assert_eq!(paged.get(slot), model.get(&slot));
            }
            prop_assert_eq!(paged.len(), model.len());
            prop_assert!(paged.iter().eq(model.iter().map(|(slot, record)| (*slot, record))));
        }
    }
}
