//! A map whose copies share what they have in common: a change among a hundred thousand entries copies some hundred.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// A copy costs this many reference counts, and a change one part.
const PARTS: usize = 1024;

type Part<V> = HashMap<Arc<str>, V>;

/// Values by name.
#[derive(Clone, Debug)]
pub(super) struct PartedMap<V> {
    parts: Box<[Arc<Part<V>>]>,
    len: usize,
}

impl<V> Default for PartedMap<V> {
    fn default() -> Self {
        let none = Arc::new(Part::new());
        Self { parts: vec![none; PARTS].into(), len: 0 }
    }
}

impl<V> PartedMap<V> {
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.parts[part_of(name)].get(name)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Every value, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(|part| part.values())
    }

    /// What it has in those parts that it does not share with the other: everything that differs, and some more.
    pub(super) fn unlike<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> {
        let pairs = self.parts.iter().zip(&other.parts);
        pairs.filter(|(own, others)| !Arc::ptr_eq(own, others)).flat_map(|(own, _)| own.iter())
    }
}

impl<V: Clone> PartedMap<V> {
    /// Puts a value in, and gives the one that it takes the place of.
    pub(super) fn insert(&mut self, name: Arc<str>, value: V) -> Option<V> {
        let replaced = Arc::make_mut(&mut self.parts[part_of(&name)]).insert(name, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        // What is not there is no reason to copy.
        self.get(name)?;
        let removed = Arc::make_mut(&mut self.parts[part_of(name)]).remove(name);
        self.len -= usize::from(removed.is_some());
        removed
    }
}

/// The same in every map, so that the parts of two can be compared. Whoever may choose names may slow nobody but
/// administrators down.
fn part_of(name: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> PartedMap<usize> {
        let mut map = PartedMap::default();
        for n in 0..count {
            assert_eq!(map.insert(n.to_string().into(), n), None);
        }
        map
    }

    #[test]
    fn it_is_a_map() {
        let mut map = filled(5000);
        assert_eq!((map.len(), map.values().count()), (5000, 5000));
        assert!((0..5000).all(|n| map.get(&n.to_string()) == Some(&n)));
        assert_eq!(map.get("x"), None);
        assert_eq!(map.remove("x"), None);
        assert_eq!(map.insert("7".into(), 70), Some(7));
        assert_eq!(map.remove("7"), Some(70));
        assert_eq!((map.get("7"), map.len()), (None, 4999));
    }

    #[test]
    fn a_copy_differs_by_the_part_that_was_changed_and_leaves_the_other_as_it_was() {
        let before = filled(50_000);
        let mut after = before.clone();
        assert_eq!(before.unlike(&after).count(), 0);
        after.insert("7".into(), 70);
        after.remove("nobody");
        let (old, new) = (before.unlike(&after).count(), after.unlike(&before).count());
        assert!(old == new && (1..200).contains(&old), "{old} entries were copied");
        assert_eq!((before.get("7"), after.get("7")), (Some(&7), Some(&70)));
    }
}
