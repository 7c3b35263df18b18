/* Functions with language handlers of their own, as only assembly and C++ have them. */

    .text

/* Like __GSHandlerCheck_SEH: a handler inside the driver that does something and then asks __C_specific_handler. */
    .globl checking_handler
    .seh_proc checking_handler
checking_handler:
    pushq %rsi
    .seh_pushreg %rsi
    pushq %rdi
    .seh_pushreg %rdi
    pushq %rbx
    .seh_pushreg %rbx
    subq $48, %rsp
    .seh_stackalloc 48
    movq %r9, 32(%rsp)
    .seh_endprologue
    movq %rcx, %rsi
    movq %rdx, %rdi
    movq %r8, %rbx
    callq own_handler_called
    movq %rsi, %rcx
    movq %rdi, %rdx
    movq %rbx, %r8
    movq 32(%rsp), %r9
    callq *__imp___C_specific_handler(%rip)
    nop
    addq $48, %rsp
    popq %rbx
    popq %rdi
    popq %rsi
    retq
    .seh_endproc

    .globl guarded_by_own_handler
    .seh_proc guarded_by_own_handler
guarded_by_own_handler:
    subq $40, %rsp
    .seh_stackalloc 40
    .seh_endprologue
.Ltry_begin:
    movl (%rcx), %eax
.Ltry_end:
    jmp .Lout
.Lexcept:
    movl $0x5AFE, %eax
.Lout:
    addq $40, %rsp
    retq
    .seh_handler checking_handler, @except, @unwind
    .seh_handlerdata
    .long 1
    .long .Ltry_begin@IMGREL
    .long .Ltry_end@IMGREL
    .long 1
    .long .Lexcept@IMGREL
    .text
    .seh_endproc

/* A handler that unwinds to its frame by RtlUnwindEx itself. Its data is where to go on. */
    .globl unwinding_handler
    .seh_proc unwinding_handler
unwinding_handler:
    subq $56, %rsp
    .seh_stackalloc 56
    .seh_endprologue
    movl $1, %eax
    testl $0x66, 4(%rcx)
    jne .Lunwinding
    /* RtlUnwindEx(frame, base + data, record, 0x77, context, 0) */
    movq 8(%r9), %rax
    movq 56(%r9), %r10
    movl (%r10), %r10d
    addq %r10, %rax
    movq %r8, 32(%rsp)
    movq $0, 40(%rsp)
    movq %rcx, %r8
    movq %rdx, %rcx
    movq %rax, %rdx
    movl $0x77, %r9d
    callq *__imp_RtlUnwindEx(%rip)
    ud2
.Lunwinding:
    addq $56, %rsp
    retq
    .seh_endproc

    .globl unwound_by_own_handler
    .seh_proc unwound_by_own_handler
unwound_by_own_handler:
    pushq %rbx
    .seh_pushreg %rbx
    subq $32, %rsp
    .seh_stackalloc 32
    .seh_endprologue
    movl $0x100, %ebx
    callq clobber_and_read
    ud2
.Lgo_on:
    addq %rbx, %rax
    addq $32, %rsp
    popq %rbx
    retq
    .seh_handler unwinding_handler, @except, @unwind
    .seh_handlerdata
    .long .Lgo_on@IMGREL
    .text
    .seh_endproc

    .globl clobber_and_read
    .seh_proc clobber_and_read
clobber_and_read:
    pushq %rbx
    .seh_pushreg %rbx
    subq $32, %rsp
    .seh_stackalloc 32
    .seh_endprologue
    xorl %ebx, %ebx
    movl (%rcx), %eax
    nop
    addq $32, %rsp
    popq %rbx
    retq
    .seh_endproc

    .globl nonsense_handler
    .seh_proc nonsense_handler
nonsense_handler:
    .seh_endprologue
    movl $5, %eax
    retq
    .seh_endproc

    .globl answered_nonsense
    .seh_proc answered_nonsense
answered_nonsense:
    subq $40, %rsp
    .seh_stackalloc 40
    .seh_endprologue
    /* Only the access violation gets nonsense for an answer; the handler of INVALID_DISPOSITION is further out. */
    movl (%rcx), %eax
    nop
    addq $40, %rsp
    retq
    .seh_handler nonsense_handler, @except
    .seh_endproc

/* Unwind information of version 2, written by hand: push rbx; sub rsp, 32; one epilog, listed as the function's end. */
    .globl version_2
version_2:
.Lv2_begin:
    pushq %rbx
.Lv2_pushed:
    subq $32, %rsp
.Lv2_allocated:
    xorl %ebx, %ebx
    movl (%rcx), %eax
    nop
    addq $32, %rsp
    popq %rbx
    retq
.Lv2_end:

    .section .xdata, "dr"
    .p2align 2
.Lv2_info:
    .byte 2                             /* version 2, no flags */
    .byte .Lv2_allocated - .Lv2_begin
    .byte 4
    .byte 0
    .byte 2, 0x16                       /* epilogs of 2 bytes, one at the end */
    .byte 0, 0x00                       /* fills the pair */
    .byte .Lv2_allocated - .Lv2_begin, 0x32
    .byte .Lv2_pushed - .Lv2_begin, 0x30

    .section .pdata, "dr"
    .p2align 2
    .long .Lv2_begin@IMGREL
    .long .Lv2_end@IMGREL
    .long .Lv2_info@IMGREL
