#pragma once

_Noreturn void make_mistake(const char *name);
