// files.h: whole files in and out.
//
// Every byte that comes in is hostile until it has been checked. A damaged or malicious file ends in one
// line that names the file and the place (an Error, see error.h): never in a crash, and never in an
// allocation that is large only because the file said so. What goes out appears whole or not at all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// A file in memory, read-only: its pages come from the disk when they are touched, so opening a large
// checkpoint takes no time and no memory. It stays readable when the file is replaced by a new one (as
// write_atomically does); a program that shortens the file in place breaks it, as it breaks any mapping.
struct Mapping {
    const uint8_t *data = nullptr;
    size_t size = 0;

    Mapping() = default;
    explicit Mapping(const std::string &path);              // refuses what is missing, empty, no plain file
    Mapping(Mapping &&other) noexcept;
    Mapping &operator=(Mapping &&other) noexcept;
    ~Mapping();
};

// A file that appears whole or not at all: the bytes go to a temporary file beside it, and only commit()
// gives them the name, after they are safely on the disk. Without a commit() nothing is left behind. A
// symbolic link stays one: what it leads to is replaced.
class AtomicFile {
public:
    explicit AtomicFile(const std::string &name);
    AtomicFile(const AtomicFile &) = delete;
    AtomicFile &operator=(const AtomicFile &) = delete;
    ~AtomicFile();
    void write(const void *data, size_t bytes);
    void commit();
    static bool is_temporary(const std::string &name, const std::string &of);     // left by a killed process

private:
    [[noreturn]] void refuse(const char *action);
    std::string path, temporary;
    int file = -1;
};

bool exists(const std::string &path);
bool is_directory(const std::string &path);
void write_atomically(const std::string &path, std::string_view text);
std::string read_text(const std::string &path, size_t limit);      // limit: the most bytes it may have
