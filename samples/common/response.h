/*
 * Takes an HTTP response apart as it arrives: counts all bytes, and counts and sums those of the body.
 */
#ifndef RESPONSE_H
#define RESPONSE_H

#include "sample.h"

typedef struct _RESPONSE {
    ULONG64 Bytes;      /* headers and body */
    ULONG64 BodyBytes;
    ULONG64 BodySum;    /* FNV-1a, 64 bits */
    ULONG EmptyLine;    /* how many characters of CR LF CR LF were just seen; 4 in the body */
} RESPONSE, *PRESPONSE;

void InitializeResponse(PRESPONSE Response);

/* Adds bytes in the order of their arrival. Any IRQL, if Data and Response are nonpaged. */
void AddToResponse(PRESPONSE Response, const void *Data, SIZE_T Length);

#endif
