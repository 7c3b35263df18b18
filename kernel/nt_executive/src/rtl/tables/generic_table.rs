//! `RTL_GENERIC_TABLE`: elements in a splay tree, and in a list in the order they were inserted.

use std::mem::offset_of;
use std::ptr;

use gate::memory::put;
use nt_abi::ListEntry;

use super::links::{Links, first, successor};
use super::splay::{delete, splay};
use super::{Found, Routines};

gate::exports! {
    /// Generic tables.
    pub static TABLE in "ntoskrnl.exe";
    "RtlInitializeGenericTable" = rtl_initialize_generic_table(table: *mut GenericTable, compare: u64, allocate: u64, free: u64, context: u64), rules "K-200";
    "RtlInsertElementGenericTable" = rtl_insert_element_generic_table(table: *mut GenericTable, element: u64, bytes: u32, new: *mut u8) -> u64, rules "K-200";
    "RtlInsertElementGenericTableFull" = rtl_insert_element_generic_table_full(table: *mut GenericTable, element: u64, bytes: u32, new: *mut u8, node: *mut Links, found: u32) -> u64, rules "K-200";
    "RtlDeleteElementGenericTable" = rtl_delete_element_generic_table(table: *mut GenericTable, element: u64) -> u8, rules "K-200";
    "RtlLookupElementGenericTable" = rtl_lookup_element_generic_table(table: *mut GenericTable, element: u64) -> u64, rules "K-200";
    "RtlLookupElementGenericTableFull" = rtl_lookup_element_generic_table_full(table: *mut GenericTable, element: u64, node: *mut *mut Links, found: *mut u32) -> u64, rules "K-200";
    "RtlEnumerateGenericTable" = rtl_enumerate_generic_table(table: *mut GenericTable, restart: u8) -> u64, rules "K-200";
    "RtlEnumerateGenericTableWithoutSplaying" = rtl_enumerate_generic_table_without_splaying(table: *mut GenericTable, restart_key: *mut *mut Links) -> u64, rules "K-200";
    "RtlGetElementGenericTable" = rtl_get_element_generic_table(table: *mut GenericTable, index: u32) -> u64, rules "K-200";
    "RtlNumberGenericTableElements" = rtl_number_generic_table_elements(table: *const GenericTable) -> u32, rules "K-200";
    "RtlIsGenericTableEmpty" = rtl_is_generic_table_empty(table: *const GenericTable) -> u8, rules "K-200";
}

/// `RTL_GENERIC_TABLE`.
#[doc(alias = "RTL_GENERIC_TABLE")]
#[derive(Debug)]
#[repr(C)]
pub struct GenericTable {
    root: *mut Links,
    insert_order: ListEntry,
    /// The entry of `insert_order` that is element number `which_ordered`, counted from one; the head for none.
    ordered: *mut ListEntry,
    which_ordered: u32,
    count: u32,
    compare: u64,
    allocate: u64,
    free: u64,
    context: u64,
}

const _: () = {
    assert!(size_of::<GenericTable>() == 0x48 && offset_of!(GenericTable, ordered) == 0x18);
    assert!(offset_of!(GenericTable, compare) == 0x28 && offset_of!(GenericTable, context) == 0x40);
};

/// What lies in front of an element.
#[repr(C)]
struct Node {
    links: Links,
    order: ListEntry,
}

const DATA: u64 = size_of::<Node>() as u64;
const _: () = assert!(DATA == 0x28);

// Tables and nodes are the driver's, and so are all pointers of this module; a bad one faults and is blamed on the
// driver. That is what every SAFETY note below refers to.

impl GenericTable {
    fn routines(&self) -> Routines {
        let table = ptr::from_ref(self) as u64;
        Routines { table, compare: self.compare, allocate: self.allocate, free: self.free }
    }

    /// Looks for an element and moves it to the root. What is only next to its place stays where it is: after a full
    /// look-up the driver inserts there.
    unsafe fn find(&mut self, element: u64) -> (*mut Links, Found) {
        // SAFETY: the driver's nodes.
        unsafe {
            let (node, found) = self.routines().find(self.root, element, DATA);
            if found == Found::Node {
                self.root = splay(node);
            }
            (node, found)
        }
    }

    /// Forgets which element was asked for last, because their numbers change.
    fn forget_order(&mut self) {
        self.ordered = &mut self.insert_order;
        self.which_ordered = 0;
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
                self.root = splay(node);
                is_new(0);
                return node as u64 + DATA;
            }
            let made = match bytes.checked_add(DATA as u32) {
                Some(bytes) => self.routines().allocate(bytes) as *mut Node,
                None => ptr::null_mut(),
            };
            if made.is_null() {
                is_new(0);
                return 0;
            }
            let links = made.cast::<Links>();
            *links = Links { parent: links, left: ptr::null_mut(), right: ptr::null_mut() };
            let (head, last) = (&raw mut self.insert_order, self.insert_order.blink);
            (*made).order = ListEntry { flink: head, blink: last };
            (*last).flink = &raw mut (*made).order;
            self.insert_order.blink = &raw mut (*made).order;
            self.count += 1;
            match found {
                Found::InsertLeft => {
                    (*node).left = links;
                    (*links).parent = node;
                }
                Found::InsertRight => {
                    (*node).right = links;
                    (*links).parent = node;
                }
                _ => {}
            }
            ptr::copy(element as *const u8, made.cast::<u8>().add(DATA as usize), bytes as usize);
            self.root = splay(links);
            is_new(1);
            links as u64 + DATA
        }
    }
}

unsafe extern "win64" fn rtl_initialize_generic_table(
    table: *mut GenericTable,
    compare: u64,
    allocate: u64,
    free: u64,
    context: u64,
) {
    // SAFETY: the driver's table.
    unsafe {
        let head = &raw mut (*table).insert_order;
        table.write(GenericTable {
            root: ptr::null_mut(),
            insert_order: ListEntry { flink: head, blink: head },
            ordered: head,
            which_ordered: 0,
            count: 0,
            compare,
            allocate,
            free,
            context,
        });
    }
}

unsafe extern "win64" fn rtl_insert_element_generic_table(
    table: *mut GenericTable,
    element: u64,
    bytes: u32,
    new: *mut u8,
) -> u64 {
    // SAFETY: the driver's table.
    unsafe {
        let (node, found) = (*table).routines().find((*table).root, element, DATA);
        (*table).insert(element, bytes, new, node, found)
    }
}

unsafe extern "win64" fn rtl_insert_element_generic_table_full(
    table: *mut GenericTable,
    element: u64,
    bytes: u32,
    new: *mut u8,
    node: *mut Links,
    found: u32,
) -> u64 {
    // SAFETY: the driver's table; the node is what the look-up gave it.
    unsafe { (*table).insert(element, bytes, new, node, Found::of(found)) }
}

unsafe extern "win64" fn rtl_delete_element_generic_table(table: *mut GenericTable, element: u64) -> u8 {
    // SAFETY: the driver's table.
    unsafe {
        let (links, found) = (*table).find(element);
        if found != Found::Node {
            return 0;
        }
        (*table).root = delete(links);
        let order = (*links.cast::<Node>()).order;
        (*order.blink).flink = order.flink;
        (*order.flink).blink = order.blink;
        (*table).count -= 1;
        (*table).forget_order();
        (*table).routines().free(links as u64);
    }
    1
}

unsafe extern "win64" fn rtl_lookup_element_generic_table(table: *mut GenericTable, element: u64) -> u64 {
    // SAFETY: the driver's table.
    match unsafe { (*table).find(element) } {
        (node, Found::Node) => node as u64 + DATA,
        _ => 0,
    }
}

unsafe extern "win64" fn rtl_lookup_element_generic_table_full(
    table: *mut GenericTable,
    element: u64,
    node: *mut *mut Links,
    found: *mut u32,
) -> u64 {
    // SAFETY: the driver's table and results.
    unsafe {
        let (last, how) = (*table).find(element);
        put(node, last);
        put(found, how as u32);
        if how == Found::Node { last as u64 + DATA } else { 0 }
    }
}

/// Goes on behind the root: whatever was enumerated last has become that.
unsafe extern "win64" fn rtl_enumerate_generic_table(table: *mut GenericTable, restart: u8) -> u64 {
    // SAFETY: the driver's table.
    unsafe {
        let root = (*table).root;
        if root.is_null() {
            return 0;
        }
        let next = if restart != 0 { first(root) } else { successor(root) };
        if next.is_null() {
            return 0;
        }
        (*table).root = splay(next);
        next as u64 + DATA
    }
}

unsafe extern "win64" fn rtl_enumerate_generic_table_without_splaying(
    table: *mut GenericTable,
    restart_key: *mut *mut Links,
) -> u64 {
    // SAFETY: the driver's table and key.
    unsafe {
        let root = (*table).root;
        if root.is_null() {
            return 0;
        }
        let last = restart_key.read_unaligned();
        let next = if last.is_null() { first(root) } else { successor(last) };
        if next.is_null() {
            return 0;
        }
        put(restart_key, next);
        next as u64 + DATA
    }
}

/// Elements are numbered in the order they were inserted.
unsafe extern "win64" fn rtl_get_element_generic_table(table: *mut GenericTable, index: u32) -> u64 {
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
            (*table).ordered = (*(*table).ordered).flink;
            (*table).which_ordered += 1;
        }
        (*table).ordered as u64 - offset_of!(Node, order) as u64 + DATA
    }
}

unsafe extern "win64" fn rtl_number_generic_table_elements(table: *const GenericTable) -> u32 {
    // SAFETY: the driver's table.
    unsafe { (*table).count }
}

unsafe extern "win64" fn rtl_is_generic_table_empty(table: *const GenericTable) -> u8 {
    // SAFETY: the driver's table.
    unsafe { (*table).root.is_null().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtl::tables::testing::{routines, value};
    use crate::testing::kernel_thread;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn new_table() -> Box<GenericTable> {
        kernel_thread();
        // SAFETY: all zero is a table that is not initialised.
        let mut table: Box<GenericTable> = Box::new(unsafe { std::mem::zeroed() });
        let routines = routines();
        // SAFETY: memory of the test.
        unsafe { rtl_initialize_generic_table(&mut *table, routines[0], routines[1], routines[2], 0) };
        table
    }

    proptest! {
        #[test]
        fn table_agrees_with_a_set(steps in proptest::collection::vec((0u32..40, any::<bool>()), 1..120)) {
            let mut table = new_table();
            let table = &raw mut *table;
            let (mut expected, mut in_order) = (BTreeSet::new(), Vec::new());
            // SAFETY: a table and elements of this test.
            unsafe {
                for (number, insert) in steps {
                    let place = &raw const number as u64;
                    let mut new = 9;
                    if insert {
                        let element = rtl_insert_element_generic_table(table, place, 4, &mut new);
                        let is_new = expected.insert(number);
                        prop_assert_eq!((value(element), new), (number, u8::from(is_new)));
                        if is_new {
                            in_order.push(number);
                        }
                    } else {
                        let removed = expected.remove(&number);
                        prop_assert_eq!(rtl_delete_element_generic_table(table, place), u8::from(removed));
                        in_order.retain(|&other| other != number);
                    }
                    let found = rtl_lookup_element_generic_table(table, place);
                    prop_assert_eq!(found != 0, expected.contains(&number));
                }
                prop_assert_eq!(rtl_number_generic_table_elements(table) as usize, expected.len());
                prop_assert_eq!(rtl_is_generic_table_empty(table) != 0, expected.is_empty());
                let mut splayed = Vec::new();
                let mut element = rtl_enumerate_generic_table(table, 1);
                while element != 0 {
                    splayed.push(value(element));
                    element = rtl_enumerate_generic_table(table, 0);
                }
                let mut key = ptr::null_mut();
                let next = || Some(rtl_enumerate_generic_table_without_splaying(table, &mut key)).filter(|&e| e != 0);
                let unsplayed: Vec<u32> = std::iter::from_fn(next).map(|element| value(element)).collect();
                let sorted: Vec<u32> = expected.iter().copied().collect();
                prop_assert_eq!(&splayed, &sorted);
                prop_assert_eq!(&unsplayed, &sorted);
                let numbers = (0..in_order.len() as u32).rev();
                let numbered: Vec<u32> = numbers.map(|index| value(rtl_get_element_generic_table(table, index))).collect();
                prop_assert!(numbered.iter().rev().eq(&in_order));
                prop_assert_eq!(rtl_get_element_generic_table(table, in_order.len() as u32), 0);
                for number in sorted {
                    rtl_delete_element_generic_table(table, &raw const number as u64);
                }
            }
        }
    }

    #[test]
    fn full_look_up_leaves_the_place_where_it_found_it() {
        let mut table = new_table();
        let table = &raw mut *table;
        // SAFETY: a table and elements of this test.
        unsafe {
            for number in [10u32, 15, 12, 17, 14, 11, 16, 13] {
                let (mut node, mut found, mut new) = (ptr::null_mut(), 9, 9);
                let place = &raw const number as u64;
                rtl_lookup_element_generic_table_full(table, place, &mut node, &mut found);
                rtl_insert_element_generic_table_full(table, place, 4, &mut new, node, found);
            }
            for number in 10u32..18 {
                assert_eq!(rtl_delete_element_generic_table(table, &raw const number as u64), 1, "{number} was lost");
            }
        }
    }

    #[test]
    fn full_insert_uses_what_the_look_up_found() {
        let mut table = new_table();
        let table = &raw mut *table;
        // SAFETY: a table and elements of this test.
        unsafe {
            for (number, expected) in [(5u32, Found::Empty), (3, Found::InsertLeft), (5, Found::Node)] {
                let (mut node, mut found, mut new) = (ptr::null_mut(), 9, 9);
                let place = &raw const number as u64;
                rtl_lookup_element_generic_table_full(table, place, &mut node, &mut found);
                assert_eq!(found, expected as u32, "{number}");
                let element = rtl_insert_element_generic_table_full(table, place, 4, &mut new, node, found);
                assert_eq!((value(element), new), (number, u8::from(expected != Found::Node)));
            }
            for number in [3u32, 5] {
                rtl_delete_element_generic_table(table, &raw const number as u64);
            }
        }
    }
}
