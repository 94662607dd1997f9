// folder.h: a folder of its own for each test, gone when it ends; ids of texts are kept there, too.
#pragma once
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "src/base/files.h"

struct Folder {
    std::filesystem::path at;
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "texts-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()));
        at = name;
        setenv("XDG_CACHE_HOME", (at / "cache").c_str(), 1);
    }
    Folder(const Folder &) = delete;
    ~Folder() {
        unsetenv("XDG_CACHE_HOME");
        std::filesystem::remove_all(at);
    }
    std::string operator/(const std::string &name) const { return (at / name).string(); }
    std::string put(const std::string &name, const std::string &text) const {
        std::filesystem::create_directories((at / name).parent_path());
        write_atomically((at / name).string(), text);
        return (at / name).string();
    }
};
