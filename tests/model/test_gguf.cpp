#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "model/gguf.h"
#include "support/gguf_writer.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::model;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using test::bytes_of;
using test::GgufWriter;

namespace {

std::string error_of_file(const std::string& bytes) {
  test::Scratch folder;
  write_file_atomically(folder / "model.gguf", bytes, Existing::refuse);
  return test::error_of([&] { Gguf(folder / "model.gguf"); });
}

const std::vector<float> four{1, 2, 3, 4};

}  // namespace

TEST_CASE("gguf: every kind of value and the tensors come back as written, versions 2 and 3") {
  for (const uint32_t version : {2u, 3u}) {
    test::Scratch folder;
    GgufWriter file(version, 64);
    file.set("u32", uint32_t{4000000000});
    file.set("i32", int32_t{-7});
    file.set("u64", uint64_t{1} << 63);
    file.set("f32", 0.1f);
    file.set("yes", true);
    file.set("text", "line\nÄ");
    file.set("words", std::vector<std::string>{"a", "", "ccc"});
    file.set("numbers", std::vector<int32_t>{-1, 2});
    file.set("reals", std::vector<float>{0.5f, -2});
    file.set_raw("u8", 0, bytes_of<uint8_t>(200));
    file.set_raw("i8", 1, bytes_of<int8_t>(-100));
    file.set_raw("i64", 11, bytes_of<int64_t>(-(int64_t{1} << 40)));
    file.set_raw("f64", 12, bytes_of(0.1));
    file.set_raw("flags", 9, bytes_of<uint32_t>(7) + bytes_of<uint64_t>(2) + std::string("\1\0", 2));
    file.add("a", {4}, four);
    file.add("b", {2, 2}, four);
    file.write(folder / "m.gguf");

    const Gguf g(folder / "m.gguf");
    CHECK(g.version() == static_cast<int>(version));
    CHECK(g.integer("u32") == 4000000000);
    CHECK(g.integer("i32") == -7);
    CHECK(std::get<uint64_t>(g.metadata().at("u64")) == uint64_t{1} << 63);
    CHECK(g.number("f32") == double{0.1f});
    CHECK(g.number("f64") == 0.1);
    CHECK(g.number("i32") == -7);
    CHECK(g.flag("yes"));
    CHECK(g.string("text") == "line\nÄ");
    CHECK(g.strings("words") == std::vector<std::string>{"a", "", "ccc"});
    CHECK(g.integers("numbers") == std::vector<int64_t>{-1, 2});
    CHECK(g.integers("flags") == std::vector<int64_t>{1, 0});
    CHECK(std::get<std::vector<double>>(g.metadata().at("reals")) == std::vector<double>{0.5, -2});
    CHECK(g.integer("u8") == 200);
    CHECK(g.integer("i8") == -100);
    CHECK(g.integer("i64") == -(int64_t{1} << 40));
    CHECK_FALSE(g.has("missing"));
    CHECK(g.tensors().size() == 2);
    CHECK(g.tensor("b").shape == std::vector<int64_t>{2, 2});
    std::vector<float> values(4);
    dequantize(g.tensor("b"), values);
    CHECK(values == four);
  }
}

TEST_CASE("gguf: a missing key, another kind and a missing tensor name the file and the key") {
  test::Scratch folder;
  GgufWriter file;
  file.set("text", "x");
  file.set("big", ~uint64_t{0});
  file.write(folder / "m.gguf");
  const Gguf g(folder / "m.gguf");
  CHECK_THAT(test::error_of([&] { g.integer("absent"); }),
             StartsWith("2: ") && ContainsSubstring("m.gguf") && ContainsSubstring("absent is missing"));
  CHECK_THAT(test::error_of([&] { g.integer("text"); }),
             ContainsSubstring("text holds a string, expected an integer"));
  CHECK_THAT(test::error_of([&] { g.integer("big"); }), ContainsSubstring("big"));
  CHECK_THAT(test::error_of([&] { g.flag("text"); }), ContainsSubstring("expected a truth value"));
  CHECK_THAT(test::error_of([&] { g.strings("text"); }), ContainsSubstring("expected an array of strings"));
  CHECK_THAT(test::error_of([&] { g.tensor("w"); }), ContainsSubstring("the tensor w is missing"));
}

TEST_CASE("gguf: a file cut short says how many bytes it should have") {
  GgufWriter file;
  file.add("a", {1024}, std::vector<float>(1024));
  const std::string whole = file.bytes();
  const std::string expected =
      "the file is cut short: 4,160 bytes expected at least, 1,000 there; download it again";
  REQUIRE(whole.size() == 4160);
  CHECK_THAT(error_of_file(whole.substr(0, 1000)), StartsWith("2: ") && ContainsSubstring(expected));
  CHECK_THAT(error_of_file(whole.substr(0, 30)), ContainsSubstring("cut short"));
  CHECK_THAT(error_of_file(whole.substr(0, 4)), ContainsSubstring("cut short: it ends at byte 4"));
  CHECK(error_of_file(whole) == "no error");
}

TEST_CASE("gguf: what is no GGUF, or one of another version or byte order, is refused by name") {
  CHECK_THAT(error_of_file(""), ContainsSubstring("is empty"));
  CHECK_THAT(error_of_file("PK\3\4 a zip file"),
             ContainsSubstring("not a GGUF file: it begins with the bytes 50 4b 03 04"));
  CHECK_THAT(error_of_file("GG"), ContainsSubstring("not a GGUF file"));
  CHECK_THAT(error_of_file(GgufWriter(1).bytes()), ContainsSubstring("version 1 is not supported"));
  CHECK_THAT(error_of_file(GgufWriter(0x03000000).bytes()), ContainsSubstring("big-endian"));
  CHECK_THAT(test::error_of([] { Gguf("/nonexistent/m.gguf"); }), ContainsSubstring("cannot open"));
  test::Scratch folder;
  CHECK_THAT(test::error_of([&] { Gguf(folder.path().string()); }), ContainsSubstring("not a regular file"));
}

TEST_CASE("gguf: a part of a split model is refused, a model of one part is not") {
  GgufWriter parts, one;
  parts.set_raw("split.count", 2, bytes_of<uint16_t>(3));
  one.set_raw("split.count", 2, bytes_of<uint16_t>(1));
  CHECK_THAT(error_of_file(parts.bytes()),
             ContainsSubstring("one of 3 parts") && ContainsSubstring("--merge"));
  CHECK(error_of_file(one.bytes()) == "no error");
}

TEST_CASE("gguf: huge counts and lengths are refused before anything is reserved") {
  const std::string huge = bytes_of(~uint64_t{0}), large = bytes_of(uint64_t{1} << 40),
                    none = bytes_of<uint64_t>(0);
  const std::string head = "GGUF" + bytes_of<uint32_t>(3);
  for (const std::string& n : {huge, large}) {
    CHECK_THAT(error_of_file(head + n + none), ContainsSubstring("at byte 8: the number of tensors"));
    CHECK_THAT(error_of_file(head + none + n),
               ContainsSubstring("at byte 16: the number of metadata values"));
    for (const uint32_t type : {0u, 4u, 7u, 8u, 12u}) {
      GgufWriter file;
      file.set_raw("list", 9, bytes_of(type) + n);
      CHECK_THAT(error_of_file(file.bytes()), ContainsSubstring("the length of list"));
    }
    GgufWriter file;
    file.set_raw("text", 8, n);
    CHECK_THAT(error_of_file(file.bytes()), ContainsSubstring("text has a length of"));
  }
}

TEST_CASE("gguf: unknown value types, nested arrays, bad truth values and duplicates are refused") {
  GgufWriter unknown, nested, truth, twice, tensor_twice;
  unknown.set_raw("k", 13, "");
  nested.set_raw("k", 9, bytes_of<uint32_t>(9) + bytes_of<uint64_t>(1));
  truth.set_raw("k", 7, "\2");
  twice.set("k", true);
  twice.set("k", false);
  tensor_twice.add("w", {4}, four);
  tensor_twice.add("w", {4}, four);
  CHECK_THAT(error_of_file(unknown.bytes()), ContainsSubstring("unknown value type 13"));
  CHECK_THAT(error_of_file(nested.bytes()), ContainsSubstring("array of arrays"));
  CHECK_THAT(error_of_file(truth.bytes()), ContainsSubstring("truth value of 2"));
  CHECK_THAT(error_of_file(twice.bytes()), ContainsSubstring("the key k is there twice"));
  CHECK_THAT(error_of_file(tensor_twice.bytes()), ContainsSubstring("the tensor w is there twice"));
}

TEST_CASE("gguf: tensor shapes, offsets and alignment are checked without overflow") {
  const auto with = [](const std::vector<uint64_t>& shape, uint32_t type, const std::string& bytes) {
    GgufWriter file;
    file.add_raw("w", shape, type, bytes);
    return file;
  };
  const uint64_t big = uint64_t{1} << 32;
  CHECK_THAT(error_of_file(with({big, big}, 0, "").bytes()), ContainsSubstring("more than 2^63 elements"));
  CHECK_THAT(error_of_file(with({uint64_t{1} << 61, 1}, 0, "").bytes()), ContainsSubstring("w"));
  CHECK_THAT(error_of_file(with({~uint64_t{0}}, 0, "").bytes()), ContainsSubstring("a dimension of"));
  CHECK_THAT(error_of_file(with({0}, 0, "").bytes()), ContainsSubstring("a dimension of 0"));
  CHECK_THAT(error_of_file(with({1, 1, 1, 1, 1}, 0, "    ").bytes()), ContainsSubstring("5 dimensions"));
  CHECK_THAT(error_of_file(with({33}, 2, std::string(36, 0)).bytes()),
             ContainsSubstring("no whole number of q4_0 blocks"));
  CHECK_THAT(error_of_file(with({64}, 2, std::string(20, 0)).bytes()), ContainsSubstring("cut short"));

  // The offset is the last field of the header.
  const auto with_offset = [&](uint64_t offset, uint32_t type) {
    GgufWriter file = with({4}, type, std::string(16, 0));
    std::string bytes = file.bytes();
    bytes.replace(file.header_bytes() - 8, 8, bytes_of(offset));
    return bytes;
  };
  CHECK_THAT(error_of_file(with_offset(8, 0)), ContainsSubstring("no multiple of the alignment"));
  CHECK_THAT(error_of_file(with_offset(~uint64_t{31}, 0)), ContainsSubstring("2^64"));
  CHECK_THAT(error_of_file(with_offset(uint64_t{1} << 40, 0)), ContainsSubstring("cut short"));
  CHECK_THAT(error_of_file(with_offset(uint64_t{1} << 40, 99)), ContainsSubstring("cut short"));

  for (const uint32_t alignment : {0u, 48u, 1u << 31}) {
    GgufWriter file;
    file.set("general.alignment", alignment);
    CHECK_THAT(error_of_file(file.bytes()), ContainsSubstring("general.alignment"));
  }
}

TEST_CASE("gguf: a tensor of a type that is not supported loads, and only its use is refused by name") {
  test::Scratch folder;
  GgufWriter file;
  file.add_raw("unknown", {4}, 99, std::string(16, 0));
  file.add_raw("known", {256}, 17, std::string(74, 0));
  file.add("w", {4}, four);
  file.write(folder / "m.gguf");
  const Gguf g(folder / "m.gguf");
  std::vector<float> values(4), more(256);
  dequantize(g.tensor("w"), values);
  CHECK(values == four);
  CHECK(g.tensor("known").bytes.size() == 74);
  CHECK_THAT(test::error_of([&] { dequantize(g.tensor("unknown"), values); }),
             StartsWith("2: ") && ContainsSubstring("tensor unknown is of type type 99"));
  CHECK_THAT(test::error_of([&] { dequantize(g.tensor("known"), more); }),
             StartsWith("2: ") && ContainsSubstring("tensor known is of type iq2_xs"));
}
