#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "core/hash.h"
#include "support/scratch.h"

using namespace deltacal;
using Catch::Matchers::StartsWith;

// Known answers of FIPS 180-4 (NIST's example values).
TEST_CASE("hash: NIST's known answers") {
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("hash: a file of a million letters, longer than a buffer") {
  test::Scratch folder;
  write_file_atomically(folder / "a", std::string(1000000, 'a'), Existing::refuse);
  CHECK(sha256_of_file(folder / "a") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK(sha256_of_file("/dev/null") == sha256(""));
  CHECK_THAT(test::error_of([&] { sha256_of_file(folder / "missing"); }), StartsWith("2: cannot read"));
}

TEST_CASE("hash: token ids are hashed as little-endian int32") {
  const int32_t ids[] = {1, 256, -1};
  CHECK(sha256_of_tokens(ids) == sha256(std::string_view("\1\0\0\0\0\1\0\0\xff\xff\xff\xff", 12)));
}
