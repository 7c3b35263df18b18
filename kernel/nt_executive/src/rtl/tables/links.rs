//! What both kinds of tree share: nodes with a parent and two children.
//!
//! The root of a splay tree is its own parent; that of an AVL tree hangs on the right of a node in the table that is its
//! own parent. Either way a walk upwards ends at a node that is its own parent.

use std::ptr;

/// `RTL_SPLAY_LINKS`, and the first part of `RTL_BALANCED_LINKS`.
#[doc(alias = "RTL_SPLAY_LINKS")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Links {
    pub parent: *mut Links,
    pub left: *mut Links,
    pub right: *mut Links,
}

const _: () = assert!(size_of::<Links>() == 24);

/// The first node of a subtree, in order.
///
/// # Safety
/// The driver's nodes; bad ones fault and are blamed on it. The same holds for the whole module.
pub unsafe fn first(mut node: *mut Links) -> *mut Links {
    // SAFETY: see above.
    unsafe {
        while !(*node).left.is_null() {
            node = (*node).left;
        }
    }
    node
}

/// The last node of a subtree, in order.
pub unsafe fn last(mut node: *mut Links) -> *mut Links {
    // SAFETY: see `first`.
    unsafe {
        while !(*node).right.is_null() {
            node = (*node).right;
        }
    }
    node
}

/// Makes `parent` the child of its child `node`. What hangs where above them is the caller's to mend: the two kinds of
/// tree end differently there.
pub unsafe fn turn(node: *mut Links, parent: *mut Links) {
    // SAFETY: see `first`.
    unsafe {
        let moved = if (*parent).left == node {
            let moved = (*node).right;
            (*parent).left = moved;
            (*node).right = parent;
            moved
        } else {
            let moved = (*node).left;
            (*parent).right = moved;
            (*node).left = parent;
            moved
        };
        if !moved.is_null() {
            (*moved).parent = parent;
        }
        (*parent).parent = node;
    }
}

/// The next node in order, or null.
pub unsafe fn successor(mut node: *mut Links) -> *mut Links {
    // SAFETY: see `first`.
    unsafe {
        if !(*node).right.is_null() {
            return first((*node).right);
        }
        while (*(*node).parent).right == node {
            node = (*node).parent;
        }
        let parent = (*node).parent;
        if (*parent).left == node { parent } else { ptr::null_mut() }
    }
}

/// The node before in order, or null. `top`: where an AVL tree hangs, which is no node.
pub unsafe fn predecessor(mut node: *mut Links, top: *mut Links) -> *mut Links {
    // SAFETY: see `first`.
    unsafe {
        if !(*node).left.is_null() {
            return last((*node).left);
        }
        while (*(*node).parent).left == node {
            node = (*node).parent;
        }
        let parent = (*node).parent;
        if (*parent).right == node && parent != top { parent } else { ptr::null_mut() }
    }
}
