/* What the drivers of this folder share: the kernel's headers that mingw-w64 brings do not parse for the msvc target. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;

typedef struct {
    u16 length, room;
    u16 *text;
} UNICODE_STRING;

typedef struct {
    u32 length;
    void *root;
    UNICODE_STRING *name;
    u32 attributes;
    void *security, *quality;
} OBJECT_ATTRIBUTES;

#define IMPORT __declspec(dllimport)
IMPORT u32 DbgPrint(const char *format, ...);
IMPORT void *ExAllocatePoolWithTag(u32 type, u64 bytes, u32 tag);
IMPORT void ExFreePoolWithTag(void *block, u32 tag);
IMPORT void IoDeleteDevice(void *device);
IMPORT u8 KeGetCurrentIrql(void);
IMPORT long long ObfDereferenceObject(void *object);
IMPORT i32 ZwClose(void *handle);

unsigned long _exception_code(void);
