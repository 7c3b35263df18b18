#define DRIVER_NAME "response"
#include "response.h"

#define FNV_OFFSET_BASIS 0xCBF29CE484222325ULL
#define FNV_PRIME 0x100000001B3ULL

static const CHAR EmptyLine[4] = { '\r', '\n', '\r', '\n' };

void InitializeResponse(PRESPONSE Response)
{
    RtlZeroMemory(Response, sizeof(*Response));
    Response->BodySum = FNV_OFFSET_BASIS;
}

/* Returns how many of the bytes belong to the headers. */
static SIZE_T SkipHeaders(PRESPONSE Response, const UCHAR *Bytes, SIZE_T Length)
{
    SIZE_T i = 0;

    while (i < Length && Response->EmptyLine < sizeof(EmptyLine)) {
        if (Bytes[i] == (UCHAR)EmptyLine[Response->EmptyLine])
            Response->EmptyLine++;
        else
            Response->EmptyLine = Bytes[i] == '\r' ? 1 : 0;
        i++;
    }
    return i;
}

void AddToResponse(PRESPONSE Response, const void *Data, SIZE_T Length)
{
    const UCHAR *bytes = Data;
    SIZE_T i = SkipHeaders(Response, bytes, Length);

    Response->Bytes += Length;
    Response->BodyBytes += Length - i;
    for (; i < Length; i++)
        Response->BodySum = (Response->BodySum ^ bytes[i]) * FNV_PRIME;
}
