/*
 * How test drivers open a transport file that build their requests themselves.
 */
#ifndef OPEN_H
#define OPEN_H

#include <ntifs.h>
#include <tdi.h>

static UNICODE_STRING TcpName = RTL_CONSTANT_STRING(L"\\Device\\Tcp");

/* Opens the kind of object on \Device\Tcp that the extended attribute of this name and value asks for. */
static NTSTATUS Open(PCSTR Name, const void *Value, USHORT Length, PHANDLE Handle, PFILE_OBJECT *File)
{
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK block;
    ULONG room[32] = {0};
    PFILE_FULL_EA_INFORMATION ea = (PVOID)room;
    NTSTATUS status;

    ea->EaNameLength = (UCHAR)strlen(Name);
    ea->EaValueLength = Length;
    RtlCopyMemory(ea->EaName, Name, ea->EaNameLength + 1);
    RtlCopyMemory(ea->EaName + ea->EaNameLength + 1, Value, Length);
    InitializeObjectAttributes(&attributes, &TcpName, OBJ_KERNEL_HANDLE, NULL, NULL);
    status = ZwCreateFile(Handle, GENERIC_READ | GENERIC_WRITE, &attributes, &block, NULL, 0, 0, FILE_OPEN, 0, ea, sizeof(room));
    return NT_SUCCESS(status) ? ObReferenceObjectByHandle(*Handle, 0, *IoFileObjectType, KernelMode, (PVOID *)File, NULL) : status;
}

#endif
