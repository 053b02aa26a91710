// data/shapes/*.json as the build found them: the program needs no folder of its own. Inside of shape.h.
#pragma once
#include <span>

namespace deltacal::model {

struct ShapeFile {
  const char *name, *text;  // "qwen2.5-7b", the JSON
};
std::span<const ShapeFile> shape_files();

}  // namespace deltacal::model
