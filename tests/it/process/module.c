/* A PKCS#11 module that passes everything on to another one (MODULE), notes each login in the file LOGINS, and does not
 * come back from C_Sign while the file HANG exists. No headers: a function list is a version and 68 pointers. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef struct { unsigned char version[2]; void *call[68]; } list;
enum { LOGIN = 18, SIGN = 43 };

static list *theirs, ours;

static ulong login(ulong session, ulong user, void *pin, ulong length) {
    FILE *file = fopen(getenv("LOGINS"), "a");
    if (file) { fputs("login\n", file); fclose(file); }
    return ((ulong (*)(ulong, ulong, void *, ulong))theirs->call[LOGIN])(session, user, pin, length);
}

static ulong sign(ulong session, void *data, ulong size, void *signature, ulong *length) {
    while (access(getenv("HANG"), F_OK) == 0) usleep(10000);
    return ((ulong (*)(ulong, void *, ulong, void *, ulong *))theirs->call[SIGN])(session, data, size, signature, length);
}

ulong C_GetFunctionList(list **out) {
    if (!theirs) {
        void *module = dlopen(getenv("MODULE"), RTLD_NOW);
        if (!module) return 5;
        ulong (*get)(list **) = (ulong (*)(list **))dlsym(module, "C_GetFunctionList");
        if (!get || get(&theirs) != 0) return 5;
        ours = *theirs;
        ours.call[LOGIN] = (void *)login;
        ours.call[SIGN] = (void *)sign;
    }
    *out = &ours;
    return 0;
}
