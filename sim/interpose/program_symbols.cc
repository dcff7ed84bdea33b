#include "sim/interpose/program_symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>

namespace reprise::interpose {
namespace {

struct Program {
  uintptr_t base = 0;
  const Elf64_Sym* symbols = nullptr;
  size_t num_symbols = 0;
  const char* names = nullptr;
};

// How far the program lies from its addresses in the file.
uintptr_t LoadAddress() {
  uintptr_t base = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        *static_cast<uintptr_t*>(data) = info->dlpi_addr;
        return 1;  // The program comes first.
      },
      &base);
  return base;
}

Program ReadProgram() {
  Program program;
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (file < 0) return program;
  struct stat status {};
  const char* bytes = nullptr;
  if (fstat(file, &status) == 0) {
    void* const memory = mmap(nullptr, static_cast<size_t>(status.st_size),
                              PROT_READ, MAP_PRIVATE, file, 0);
    if (memory != MAP_FAILED) bytes = static_cast<const char*>(memory);
  }
  close(file);
  if (bytes == nullptr) return program;
  const auto* const header = reinterpret_cast<const Elf64_Ehdr*>(bytes);
  const auto* const sections =
      reinterpret_cast<const Elf64_Shdr*>(bytes + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    program.symbols =
        reinterpret_cast<const Elf64_Sym*>(bytes + sections[i].sh_offset);
    program.num_symbols = sections[i].sh_size / sizeof(Elf64_Sym);
    program.names = bytes + sections[sections[i].sh_link].sh_offset;
  }
  program.base = LoadAddress();
  return program;
}

}  // namespace

std::string_view ProgramSymbolAt(uintptr_t pc) {
  static const Program program = ReadProgram();
  const uintptr_t address = pc - program.base;
  for (size_t i = 0; i < program.num_symbols; ++i) {
    const Elf64_Sym& symbol = program.symbols[i];
    if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC &&
        address - symbol.st_value < symbol.st_size) {
      return program.names + symbol.st_name;
    }
  }
  return {};
}

}  // namespace reprise::interpose
