//! `RTL_AVL_TABLE`: elements in an AVL tree.

use std::mem::offset_of;
use std::ptr;

use gate::memory::put;

use super::avl::{Balanced, delete, inserted};
use super::links::{Links, first, predecessor, successor};
use super::{Found, Routines};

gate::exports! {
    /// AVL tables.
    pub static TABLE in "ntoskrnl.exe";
    "RtlInitializeGenericTableAvl" = rtl_initialize_generic_table_avl(table: *mut AvlTable, compare: u64, allocate: u64, free: u64, context: u64), rules "K-200";
    "RtlInsertElementGenericTableAvl" = rtl_insert_element_generic_table_avl(table: *mut AvlTable, element: u64, bytes: u32, new: *mut u8) -> u64, rules "K-200";
    "RtlInsertElementGenericTableFullAvl" = rtl_insert_element_generic_table_full_avl(table: *mut AvlTable, element: u64, bytes: u32, new: *mut u8, node: *mut Links, found: u32) -> u64, rules "K-200";
    "RtlDeleteElementGenericTableAvl" = rtl_delete_element_generic_table_avl(table: *mut AvlTable, element: u64) -> u8, rules "K-200";
    "RtlLookupElementGenericTableAvl" = rtl_lookup_element_generic_table_avl(table: *mut AvlTable, element: u64) -> u64, rules "K-200";
    "RtlLookupElementGenericTableFullAvl" = rtl_lookup_element_generic_table_full_avl(table: *mut AvlTable, element: u64, node: *mut *mut Links, found: *mut u32) -> u64, rules "K-200";
    "RtlLookupFirstMatchingElementGenericTableAvl" = rtl_lookup_first_matching_element_generic_table_avl(table: *mut AvlTable, element: u64, restart_key: *mut *mut Links) -> u64, rules "K-200";
    "RtlEnumerateGenericTableAvl" = rtl_enumerate_generic_table_avl(table: *mut AvlTable, restart: u8) -> u64, rules "K-200";
    "RtlEnumerateGenericTableWithoutSplayingAvl" = rtl_enumerate_generic_table_without_splaying_avl(table: *mut AvlTable, restart_key: *mut *mut Links) -> u64, rules "K-200";
    "RtlGetElementGenericTableAvl" = rtl_get_element_generic_table_avl(table: *mut AvlTable, index: u32) -> u64, rules "K-200";
    "RtlNumberGenericTableElementsAvl" = rtl_number_generic_table_elements_avl(table: *const AvlTable) -> u32, rules "K-200";
    "RtlIsGenericTableEmptyAvl" = rtl_is_generic_table_empty_avl(table: *const AvlTable) -> u8, rules "K-200";
}

/// `RTL_AVL_TABLE`.
#[doc(alias = "RTL_AVL_TABLE")]
#[derive(Debug)]
#[repr(C)]
pub struct AvlTable {
    /// The tree hangs on its right; it is its own parent.
    top: Balanced,
    /// The node that is element number `which_ordered`, counted from one; null for none.
    ordered: *mut Links,
    which_ordered: u32,
    count: u32,
    depth: u32,
    _pad: u32,
    /// What was enumerated last.
    restart_key: *mut Links,
    delete_count: u32,
    _pad2: u32,
    compare: u64,
    allocate: u64,
    free: u64,
    context: u64,
}

const _: () = {
    assert!(size_of::<AvlTable>() == 0x68 && offset_of!(AvlTable, ordered) == 0x20);
    assert!(offset_of!(AvlTable, count) == 0x2C && offset_of!(AvlTable, restart_key) == 0x38);
    assert!(offset_of!(AvlTable, compare) == 0x48 && offset_of!(AvlTable, context) == 0x60);
};

/// What lies in front of an element.
const DATA: u64 = size_of::<Balanced>() as u64;

// Tables and nodes are the driver's, and so are all pointers of this module; a bad one faults and is blamed on the
// driver. That is what every SAFETY note below refers to.

impl AvlTable {
    fn routines(&self) -> Routines {
        let table = ptr::from_ref(self) as u64;
        Routines { table, compare: self.compare, allocate: self.allocate, free: self.free }
    }

    fn top(&mut self) -> *mut Links {
        &mut self.top.links
    }

    fn root(&self) -> *mut Links {
        self.top.links.right
    }

    unsafe fn find(&self, element: u64) -> (*mut Links, Found) {
        // SAFETY: the driver's nodes.
        unsafe { self.routines().find(self.root(), element, DATA) }
    }

    unsafe fn insert(&mut self, element: u64, bytes: u32, new: *mut u8, node: *mut Links, found: Found) -> u64 {
        // SAFETY: the driver's nodes and buffers.
        unsafe {
            let is_new = |value: u8| {
                if !new.is_null() {
                    new.write(value);
                }
            };
            if found == Found::Node {
                is_new(0);
                return node as u64 + DATA;
            }
            let made = match bytes.checked_add(DATA as u32) {
                Some(bytes) => self.routines().allocate(bytes) as *mut Balanced,
                None => ptr::null_mut(),
            };
            if made.is_null() {
                is_new(0);
                return 0;
            }
            let links = made.cast::<Links>();
            let parent = if found == Found::Empty { self.top() } else { node };
            *made = Balanced::new(parent);
            match found {
                Found::InsertLeft => (*parent).left = links,
                _ => (*parent).right = links,
            }
            let top = self.top();
            self.depth += u32::from(inserted(links, top));
            self.count += 1;
            self.forget_order();
            ptr::copy(element as *const u8, made.cast::<u8>().add(DATA as usize), bytes as usize);
            is_new(1);
            links as u64 + DATA
        }
    }

    /// Forgets which element was asked for last, because their numbers change.
    fn forget_order(&mut self) {
        self.ordered = ptr::null_mut();
        self.which_ordered = 0;
    }

    /// The first node, or the one behind `last`.
    unsafe fn next(&self, last: *mut Links) -> *mut Links {
        // SAFETY: the driver's nodes.
        unsafe {
            match (last.is_null(), self.root().is_null()) {
                (_, true) => ptr::null_mut(),
                (true, _) => first(self.root()),
                (false, _) => successor(last),
            }
        }
    }
}

/// An element's address, 0 for none.
fn element_of(node: *mut Links) -> u64 {
    if node.is_null() { 0 } else { node as u64 + DATA }
}

unsafe extern "win64" fn rtl_initialize_generic_table_avl(
    table: *mut AvlTable,
    compare: u64,
    allocate: u64,
    free: u64,
    context: u64,
) {
    // SAFETY: the driver's table.
    unsafe {
        table.write(AvlTable {
            top: Balanced::new(table.cast()),
            ordered: ptr::null_mut(),
            which_ordered: 0,
            count: 0,
            depth: 0,
            _pad: 0,
            restart_key: ptr::null_mut(),
            delete_count: 0,
            _pad2: 0,
            compare,
            allocate,
            free,
            context,
        });
    }
}

unsafe extern "win64" fn rtl_insert_element_generic_table_avl(
    table: *mut AvlTable,
    element: u64,
    bytes: u32,
    new: *mut u8,
) -> u64 {
    // SAFETY: the driver's table.
    unsafe {
        let (node, found) = (*table).find(element);
        (*table).insert(element, bytes, new, node, found)
    }
}

unsafe extern "win64" fn rtl_insert_element_generic_table_full_avl(
    table: *mut AvlTable,
    element: u64,
    bytes: u32,
    new: *mut u8,
    node: *mut Links,
    found: u32,
) -> u64 {
    // SAFETY: the driver's table; the node is what the look-up gave it.
    unsafe { (*table).insert(element, bytes, new, node, Found::of(found)) }
}

unsafe extern "win64" fn rtl_delete_element_generic_table_avl(table: *mut AvlTable, element: u64) -> u8 {
    // SAFETY: the driver's table.
    unsafe {
        let (node, found) = (*table).find(element);
        if found != Found::Node {
            return 0;
        }
        let top = (*table).top();
        if (*table).restart_key == node {
            (*table).restart_key = predecessor(node, top);
        }
        (*table).depth -= u32::from(delete(node, top));
        (*table).count -= 1;
        (*table).delete_count += 1;
        (*table).forget_order();
        (*table).routines().free(node as u64);
    }
    1
}

unsafe extern "win64" fn rtl_lookup_element_generic_table_avl(table: *mut AvlTable, element: u64) -> u64 {
    // SAFETY: the driver's table.
    match unsafe { (*table).find(element) } {
        (node, Found::Node) => element_of(node),
        _ => 0,
    }
}

unsafe extern "win64" fn rtl_lookup_element_generic_table_full_avl(
    table: *mut AvlTable,
    element: u64,
    node: *mut *mut Links,
    found: *mut u32,
) -> u64 {
    // SAFETY: the driver's table and results.
    unsafe {
        let (last, how) = (*table).find(element);
        put(node, last);
        put(found, how as u32);
        if how == Found::Node { element_of(last) } else { 0 }
    }
}

/// The first of several elements that compare as equal.
unsafe extern "win64" fn rtl_lookup_first_matching_element_generic_table_avl(
    table: *mut AvlTable,
    element: u64,
    restart_key: *mut *mut Links,
) -> u64 {
    // SAFETY: the driver's table and key.
    unsafe {
        let (mut node, found) = (*table).find(element);
        if found != Found::Node {
            put(restart_key, ptr::null_mut());
            return 0;
        }
        let (top, routines) = ((*table).top(), (*table).routines());
        loop {
            let before = predecessor(node, top);
            let is_equal = |before: *mut Links| {
                let answer = routines.compare(element, before as u64 + DATA);
                answer.is_some_and(|answer| answer > super::order::GREATER)
            };
            if before.is_null() || !is_equal(before) {
                break;
            }
            node = before;
        }
        put(restart_key, node);
        element_of(node)
    }
}

unsafe extern "win64" fn rtl_enumerate_generic_table_avl(table: *mut AvlTable, restart: u8) -> u64 {
    // SAFETY: the driver's table.
    unsafe {
        if restart != 0 {
            (*table).restart_key = ptr::null_mut();
        }
        rtl_enumerate_generic_table_without_splaying_avl(table, &raw mut (*table).restart_key)
    }
}

unsafe extern "win64" fn rtl_enumerate_generic_table_without_splaying_avl(
    table: *mut AvlTable,
    restart_key: *mut *mut Links,
) -> u64 {
    // SAFETY: the driver's table and key.
    unsafe {
        let next = (*table).next(restart_key.read_unaligned());
        if !next.is_null() {
            put(restart_key, next);
        }
        element_of(next)
    }
}

/// Elements are numbered in their order.
unsafe extern "win64" fn rtl_get_element_generic_table_avl(table: *mut AvlTable, index: u32) -> u64 {
    // SAFETY: the driver's table.
    unsafe {
        if index >= (*table).count {
            return 0;
        }
        let wanted = index + 1;
        if (*table).which_ordered > wanted {
            (*table).forget_order();
        }
        while (*table).which_ordered < wanted {
            (*table).ordered = (*table).next((*table).ordered);
            (*table).which_ordered += 1;
        }
        element_of((*table).ordered)
    }
}

unsafe extern "win64" fn rtl_number_generic_table_elements_avl(table: *const AvlTable) -> u32 {
    // SAFETY: the driver's table.
    unsafe { (*table).count }
}

unsafe extern "win64" fn rtl_is_generic_table_empty_avl(table: *const AvlTable) -> u8 {
    // SAFETY: the driver's table.
    unsafe { ((*table).count == 0).into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtl::tables::testing::{routines, value};
    use crate::testing::kernel_thread;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn new_table() -> Box<AvlTable> {
        kernel_thread();
        // SAFETY: all zero is a table that is not initialised.
        let mut table: Box<AvlTable> = Box::new(unsafe { std::mem::zeroed() });
        let routines = routines();
        // SAFETY: memory of the test.
        unsafe { rtl_initialize_generic_table_avl(&mut *table, routines[0], routines[1], routines[2], 0) };
        table
    }

    /// The depth of a subtree, after checking every balance in it.
    unsafe fn depth(node: *mut Links) -> i32 {
        if node.is_null() {
            return 0;
        }
        // SAFETY: nodes of the test.
        unsafe {
            let (left, right) = (depth((*node).left), depth((*node).right));
            assert_eq!(i32::from((*node.cast::<Balanced>()).balance), right - left);
            assert!((right - left).abs() <= 1);
            for child in [(*node).left, (*node).right] {
                assert!(child.is_null() || (*child).parent == node);
            }
            1 + left.max(right)
        }
    }

    proptest! {
        #[test]
        fn table_agrees_with_a_set_and_stays_balanced(steps in proptest::collection::vec((0u32..60, 0u32..3), 1..200)) {
            let mut table = new_table();
            let table = &raw mut *table;
            let mut expected = BTreeSet::new();
            // SAFETY: a table and elements of this test.
            unsafe {
                for (number, step) in steps {
                    let place = &raw const number as u64;
                    let mut new = 9;
                    if step > 0 {
                        let element = rtl_insert_element_generic_table_avl(table, place, 4, &mut new);
                        prop_assert_eq!((value(element), new), (number, u8::from(expected.insert(number))));
                    } else {
                        let removed = expected.remove(&number);
                        prop_assert_eq!(rtl_delete_element_generic_table_avl(table, place), u8::from(removed));
                    }
                    prop_assert_eq!(depth((*table).root()) as u32, (*table).depth);
                    let found = rtl_lookup_element_generic_table_avl(table, place);
                    prop_assert_eq!(found != 0, expected.contains(&number));
                }
                prop_assert_eq!(rtl_number_generic_table_elements_avl(table) as usize, expected.len());
                let mut restart = 1;
                let next = || {
                    let element = rtl_enumerate_generic_table_avl(table, std::mem::take(&mut restart));
                    (element != 0).then(|| value(element))
                };
                prop_assert!(std::iter::from_fn(next).eq(expected.iter().copied()));
                for (index, number) in expected.iter().enumerate().rev() {
                    prop_assert_eq!(value(rtl_get_element_generic_table_avl(table, index as u32)), *number);
                }
                for number in expected {
                    rtl_delete_element_generic_table_avl(table, &raw const number as u64);
                }
                prop_assert_eq!(rtl_is_generic_table_empty_avl(table), 1);
            }
        }
    }

    #[test]
    fn enumeration_goes_on_after_its_element_was_deleted() {
        let mut table = new_table();
        let table = &raw mut *table;
        // SAFETY: a table and elements of this test.
        unsafe {
            for number in 0..6u32 {
                rtl_insert_element_generic_table_avl(table, &raw const number as u64, 4, ptr::null_mut());
            }
            let mut seen = Vec::new();
            let mut element = rtl_enumerate_generic_table_avl(table, 1);
            while element != 0 {
                let number = value(element);
                seen.push(number);
                rtl_delete_element_generic_table_avl(table, &raw const number as u64);
                element = rtl_enumerate_generic_table_avl(table, 0);
            }
            assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
        }
    }
}
