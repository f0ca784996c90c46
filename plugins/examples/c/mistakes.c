// Unintended failures of C code. The host's tests check the error message of each.
#include "mistakes.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int again(volatile int depth) { return depth < 0 ? depth : again(depth + 1) + depth; }

_Noreturn void make_mistake(const char *name) {
    if (!strcmp(name, "abort")) {
        fprintf(stderr, "no bolts left\n");
        abort();
    }
    if (!strcmp(name, "no-line-end")) {
        fprintf(stderr, "no bolts left");
        abort();
    }
    if (!strcmp(name, "assertion")) assert(strlen(name) < 4);
    if (!strcmp(name, "perror")) {
        if (!fopen("/no/such/file", "r")) perror("cannot read the stock");
        abort();
    }
    if (!strcmp(name, "exit")) {
        fprintf(stderr, "out of paper\n");
        exit(3);
    }
    if (!strcmp(name, "bounds")) exit(*(volatile int *)0x7ffffff0);
    if (!strcmp(name, "recursion")) exit(again(0));
    fprintf(stderr, "no mistake is called %s\n", name);
    abort();
}
